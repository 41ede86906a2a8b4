// @ts-check
// One picture of a dream, from the first preview to the finished picture, in a box that never changes its shape.

import { h, icon, setStyle } from '../dom.js'
import { failureText, t } from '../words.js'

/** @typedef {import('../types').ShownImage} ShownImage */

const UNKNOWN = 4 / 3 // the shape of a picture whose size nobody knows yet
const LONG = 60_000 // milliseconds of processing after which we say that it takes long

/** The addresses of a picture for every size of screen. @param {ShownImage} image */
export function srcset(image) {
  const byUrl = new Map(Object.values(image.variants).map((variant) => [variant.url, variant]))
  return [...byUrl.values()].map(({ url, width }) => `${url} ${width}w`).join(', ')
}

/** The smallest address whose longer side has at least `pixels`. @param {ShownImage} image @param {number} pixels */
export function address(image, pixels) {
  const sizes = Object.values(image.variants).sort((a, b) => a.width * a.height - b.width * b.height)
  return (sizes.find(({ width, height }) => Math.max(width, height) >= pixels) ?? sizes[sizes.length - 1]).url
}

export class Picture {
  /** @type {ShownImage | null} */
  #image = null
  #shown = '' // what the box holds now
  #renewed = false // its addresses were fetched anew, and none has brought the file since
  #number = 0
  #total = 0
  #since = Date.now()
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer

  /**
   * @param {{open: (image: ShownImage) => void, retry: (image: ShownImage) => void,
   *   remove: (image: ShownImage) => void, renew: () => void}} actions
   *   `renew` asks for fresh addresses
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
    // The box is given its shape once: from the preview, the header of the file, or the finished picture.
    if (image.width && image.height) setStyle(this.element, '--ratio', image.width / image.height)
    else if (!this.element.style.getPropertyValue('--ratio')) setStyle(this.element, '--ratio', UNKNOWN)
    const state = `${image.status} ${image.error?.code ?? ''} ${image.attempt}`
    if (state === this.#shown) return
    delete this.element.dataset.lost
    // One that fails before the reader's eyes keeps its place; one that had failed before needs less.
    if (this.#shown && image.status === 'failed') this.element.dataset.held = ''
    this.#shown = state
    this.element.dataset.status = image.status
    clearTimeout(this.#timer)
    if (image.status === 'completed') this.#completed(image)
    else if (image.status === 'failed') this.#failed(image)
    else this.#waiting(image)
  }

  close() {
    clearTimeout(this.#timer)
  }

  /** The server is there again. */
  reconnected() {
    if ('lost' in this.element.dataset) this.#again()
  }

  #again() {
    this.#renewed = true
    this.#shown = ''
    this.actions.renew()
  }

  /** @param {ShownImage} image */
  #waiting(image) {
    this.#underlay(image.preview)
    const label = h('span', null, t(image.status === 'uploading' ? 'uploading' : 'processing'))
    this.over.replaceChildren(h('p', { class: 'badge' }, h('span', { class: 'pulse', 'aria-hidden': 'true' }), label))
    if (image.status !== 'processing') return
    this.#since = Date.now()
    this.#timer = setTimeout(() => (label.textContent = t('processing_long')), LONG)
  }

  /** @param {ShownImage} image */
  #completed(image) {
    this.#underlay(image.preview ?? image.placeholder)
    const name = t('picture', { n: this.#number, total: this.#total })
    const picture = h('img', {
      alt: name,
      width: image.width,
      height: image.height,
      decoding: 'async',
      // The first ones are what the reader came for.
      loading: this.#number > 2 ? 'lazy' : 'eager',
      sizes: '(min-width: 44rem) 42rem, calc(100vw - 2rem)',
      srcset: srcset(image),
      src: address(image, 1024),
      class: 'loads',
    })
    picture.addEventListener('load', () => {
      this.#renewed = false
      picture.classList.replace('loads', 'loaded')
      this.element.dataset.loaded = ''
    })
    picture.addEventListener('error', () => {
      // Its address may have run out while the page stood open.
      if (!this.#renewed && navigator.onLine) this.#again()
      else this.#cannotShow()
    })
    const open = () => this.actions.open(/** @type {ShownImage} */ (this.#image))
    const label = t('view_large', { n: this.#number })
    this.over.replaceChildren(
      h('button', { type: 'button', class: 'open', 'aria-label': label, on: { click: open } }, picture),
    )
  }

  #cannotShow() {
    this.element.dataset.lost = '' // its file did not come
    const again = () => this.#again()
    this.over.replaceChildren(
      h(
        'div',
        { class: 'says' },
        h('p', null, t('cannot_show')),
        h('button', { type: 'button', on: { click: again } }, icon('retry'), t('retry')),
      ),
    )
  }

  /** @param {ShownImage} image */
  #failed(image) {
    this.under.replaceChildren()
    const error = image.error ?? { code: '', message: '', retryable: true }
    const retry = () => this.actions.retry(image)
    const remove = () => this.actions.remove(image)
    this.over.replaceChildren(
      h(
        'div',
        { class: 'says' },
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
  #underlay(url) {
    if (!url) return this.under.replaceChildren()
    if (this.under.querySelector('img')?.src === url) return
    const image = h('img', { src: url, alt: '', 'aria-hidden': 'true', decoding: 'async' })
    image.addEventListener('error', () => image.remove()) // a kind that this browser cannot show
    this.under.replaceChildren(image)
  }
}
