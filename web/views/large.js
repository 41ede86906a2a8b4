// @ts-check
// The full-screen viewer for the pictures of a dream: a strip that scrolls by arrow keys and swipes; Esc closes it.

import { h, iconButton } from '../dom.js'
import { t } from '../words.js'
import { srcset, urlFor } from './picture.js'

/** @typedef {import('../types').ShownImage} ShownImage */

/**
 * @param {readonly ShownImage[]} images completed ones @param {string} key of the first one to show
 * @param {(image: ShownImage) => Promise<ShownImage | undefined>} renew returns the image with new URLs
 */
export function showLarge(images, key, renew) {
  let current = Math.max(
    0,
    images.findIndex((image) => image.key === key),
  )
  const slides = images.map((image, index) => {
    const picture = h('img', {
      alt: t('picture', { n: index + 1, total: images.length }),
      width: image.width,
      height: image.height,
      sizes: '100vw',
      srcset: srcset(image),
      src: urlFor(image, 2048),
      loading: Math.abs(index - current) > 1 ? 'lazy' : 'eager',
    })
    const retry = async () => {
      const renewed = await renew(image)
      if (!renewed) return showLoadError()
      picture.addEventListener('error', showLoadError, { once: true })
      picture.srcset = srcset(renewed)
      picture.src = urlFor(renewed, 2048)
    }
    const showLoadError = () => picture.replaceWith(h('p', { role: 'alert' }, t('cannot_show')))
    // The URL may have expired while the page was open.
    picture.addEventListener('error', retry, { once: true })
    return h('li', null, picture)
  })
  const count = h('p', { class: 'count', 'aria-live': 'polite' })
  const strip = h('ul', { class: 'strip', tabindex: '0', 'aria-label': t('pictures') }, slides)
  const previous = iconButton('back', t('previous'), () => go(current - 1), { class: 'plain side previous' })
  const next = iconButton('forward', t('next'), () => go(current + 1), { class: 'plain side next' })
  const close = iconButton('close', t('close'), () => dialog.close(), { class: 'plain corner' })
  const dialog = h('dialog', { class: 'large', 'aria-label': t('picture', { n: current + 1, total: images.length }) })
  dialog.append(strip, close, ...(images.length > 1 ? [previous, next, count] : []))

  /** @param {number} index @param {ScrollBehavior} [behavior] */
  function go(index, behavior = reducedMotion() ? 'instant' : 'smooth') {
    if (!images[index]) return
    slides[index].scrollIntoView({ behavior, inline: 'center', block: 'nearest' })
    setCurrent(index)
  }

  /** @param {number} index */
  function setCurrent(index) {
    current = index
    count.textContent = t('of', { n: index + 1, total: images.length })
    previous.hidden = index === 0
    next.hidden = index === images.length - 1
  }

  const watcher = new IntersectionObserver(
    (seen) => {
      for (const { isIntersecting, target } of seen)
        if (isIntersecting) setCurrent(slides.indexOf(/** @type {any} */ (target)))
    },
    { root: strip, threshold: 0.6 },
  )
  for (const slide of slides) watcher.observe(slide)

  dialog.addEventListener('keydown', (event) => {
    const to = { ArrowLeft: current - 1, ArrowRight: current + 1, Home: 0, End: images.length - 1 }[event.key]
    if (to === undefined) return
    event.preventDefault()
    go(to)
  })
  // A click outside the picture.
  strip.addEventListener('click', ({ target }) => {
    if (!(target instanceof HTMLImageElement)) dialog.close()
  })
  const opener = document.activeElement
  const navigated = () => dialog.close()
  addEventListener('hashchange', navigated)
  dialog.addEventListener('close', () => {
    removeEventListener('hashchange', navigated)
    watcher.disconnect()
    dialog.remove()
    if (opener instanceof HTMLElement) opener.focus()
  })
  document.body.append(dialog)
  dialog.showModal()
  strip.focus()
  go(current, 'instant')
}

/** Whether the user prefers reduced motion. */
const reducedMotion = () => matchMedia('(prefers-reduced-motion: reduce)').matches
