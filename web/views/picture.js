// @ts-check
// One picture of a dream, from the preview to the completed picture, in a box of constant shape.

import { h, icon, setStyle } from '../dom.js'
import { failureText, t } from '../words.js'

/** @typedef {import('../types').ShownImage} ShownImage */

const DEFAULT_RATIO = 4 / 3 // for a picture of unknown size
const LONG_PROCESSING = 60_000 // milliseconds after which the page says that it takes long

/** The variants of a picture as a `srcset`. @param {ShownImage} image */
export function srcset(image) {
  const byUrl = new Map(Object.values(image.variants).map((variant) => [variant.url, variant]))
  return [...byUrl.values()].map(({ url, width }) => `${url} ${width}w`).join(', ')
}

/**
 * The URL of the smallest variant whose longer side has at least `pixels`.
 * @param {ShownImage} image @param {number} pixels
 */
export function urlFor(image, pixels) {
  const sizes = Object.values(image.variants).sort((a, b) => a.width * a.height - b.width * b.height)
  return (sizes.find(({ width, height }) => Math.max(width, height) >= pixels) ?? sizes[sizes.length - 1]).url
}

export class Picture {
  /** @type {ShownImage | null} */
  #image = null
  #shown = '' // the state that the box shows
  #renewed = false // new URLs were fetched, and no file has loaded since
  #number = 0
  #total = 0
  #since = Date.now()
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer

  /**
   * @param {{open: (image: ShownImage) => void, retry: (image: ShownImage) => void,
   *   remove: (image: ShownImage) => void, renew: () => void}} actions
   *   `renew` fetches new URLs
   */
  constructor(actions) {
    this.actions = actions
    this.under = h('div', { class: 'under' })
    this.over = h('div', { class: 'over' })
    this.element = h('figure', { class: 'picture' }, this.under, this.over)
  }

  /** @param {ShownImage} image @param {number} number from 1 @param {number} total */
  update(image, number, total) {
    this.#image = image
    this.#number = number
    this.#total = total
    // The shape of the box is set once: from the preview, the header of the file, or the completed picture.
    if (image.width && image.height) setStyle(this.element, '--ratio', image.width / image.height)
    else if (!this.element.style.getPropertyValue('--ratio')) setStyle(this.element, '--ratio', DEFAULT_RATIO)
    const state = `${image.status} ${image.error?.code ?? ''} ${image.attempt}`
    if (state === this.#shown) return
    delete this.element.dataset.lost
    // A picture that fails while it is visible keeps its space; one that failed earlier needs less.
    if (this.#shown && image.status === 'failed') this.element.dataset.held = ''
    this.#shown = state
    this.element.dataset.status = image.status
    clearTimeout(this.#timer)
    if (image.status === 'completed') this.#showCompleted(image)
    else if (image.status === 'failed') this.#showFailed(image)
    else this.#showWaiting(image)
  }

  close() {
    clearTimeout(this.#timer)
  }

  /** The connection to the server is back. */
  reconnected() {
    if ('lost' in this.element.dataset) this.#renew()
  }

  #renew() {
    this.#renewed = true
    this.#shown = ''
    this.actions.renew()
  }

  /** @param {ShownImage} image */
  #showWaiting(image) {
    this.#showPreview(image.preview)
    const label = h('span', null, t(image.status === 'uploading' ? 'uploading' : 'processing'))
    this.over.replaceChildren(h('p', { class: 'badge' }, h('span', { class: 'pulse', 'aria-hidden': 'true' }), label))
    if (image.status !== 'processing') return
    this.#since = Date.now()
    this.#timer = setTimeout(() => (label.textContent = t('processing_long')), LONG_PROCESSING)
  }

  /** @param {ShownImage} image */
  #showCompleted(image) {
    this.#showPreview(image.preview ?? image.placeholder)
    const name = t('picture', { n: this.#number, total: this.#total })
    const picture = h('img', {
      alt: name,
      width: image.width,
      height: image.height,
      decoding: 'async',
      // The first pictures are likely in the viewport.
      loading: this.#number > 2 ? 'lazy' : 'eager',
      sizes: '(min-width: 44rem) 42rem, calc(100vw - 2rem)',
      srcset: srcset(image),
      src: urlFor(image, 1024),
      class: 'loads',
    })
    picture.addEventListener('load', () => {
      this.#renewed = false
      picture.classList.replace('loads', 'loaded')
      this.element.dataset.loaded = ''
    })
    picture.addEventListener('error', () => {
      // The URL may have expired while the page was open.
      if (!this.#renewed && navigator.onLine) this.#renew()
      else this.#showLoadError()
    })
    const open = () => this.actions.open(/** @type {ShownImage} */ (this.#image))
    const label = t('view_large', { n: this.#number })
    this.over.replaceChildren(
      h('button', { type: 'button', class: 'open', 'aria-label': label, on: { click: open } }, picture),
    )
  }

  #showLoadError() {
    this.element.dataset.lost = '' // the file did not load
    const retry = () => this.#renew()
    this.over.replaceChildren(
      h(
        'div',
        { class: 'message' },
        h('p', null, t('cannot_show')),
        h('button', { type: 'button', on: { click: retry } }, icon('retry'), t('retry')),
      ),
    )
  }

  /** @param {ShownImage} image */
  #showFailed(image) {
    this.under.replaceChildren()
    const error = image.error ?? { code: '', message: '', retryable: true }
    const retry = () => this.actions.retry(image)
    const remove = () => this.actions.remove(image)
    this.over.replaceChildren(
      h(
        'div',
        { class: 'message' },
        h('p', null, t('picture_failed', { n: this.#number, detail: failureText(error) })),
        h(
          'div',
          { class: 'row' },
          error.retryable && h('button', { type: 'button', on: { click: retry } }, icon('retry'), t('retry')),
          h('button', { type: 'button', on: { click: remove } }, icon('remove'), t('remove_picture')),
        ),
      ),
    )
  }

  /** @param {string | null} url */
  #showPreview(url) {
    if (!url) return this.under.replaceChildren()
    if (this.under.querySelector('img')?.src === url) return
    const image = h('img', { src: url, alt: '', 'aria-hidden': 'true', decoding: 'async' })
    image.addEventListener('error', () => image.remove()) // a format that the browser cannot show
    this.under.replaceChildren(image)
  }
}
