// @ts-check
// The pictures of a dream, large: arrow keys, swipes, Esc. A row that scrolls from one to the next.

import { h, iconButton } from '../dom.js'
import { t } from '../words.js'
import { address, srcset } from './picture.js'

/** @typedef {import('../types').ShownImage} ShownImage */

/**
 * @param {readonly ShownImage[]} images finished ones @param {string} key of the one to begin with
 * @param {(image: ShownImage) => Promise<ShownImage | undefined>} renewed the same with fresh addresses
 */
export function showLarge(images, key, renewed) {
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
      src: address(image, 2048),
      loading: Math.abs(index - current) > 1 ? 'lazy' : 'eager',
    })
    const again = async () => {
      const fresh = await renewed(image)
      if (!fresh) return cannotShow()
      picture.addEventListener('error', cannotShow, { once: true })
      picture.srcset = srcset(fresh)
      picture.src = address(fresh, 2048)
    }
    const cannotShow = () => picture.replaceWith(h('p', { role: 'alert' }, t('cannot_show')))
    // Its address may have run out while the page stood open.
    picture.addEventListener('error', again, { once: true })
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
  function go(index, behavior = calm() ? 'instant' : 'smooth') {
    if (!images[index]) return
    slides[index].scrollIntoView({ behavior, inline: 'center', block: 'nearest' })
    say(index)
  }

  /** @param {number} index */
  function say(index) {
    current = index
    count.textContent = t('of', { n: index + 1, total: images.length })
    previous.hidden = index === 0
    next.hidden = index === images.length - 1
  }

  const watcher = new IntersectionObserver(
    (seen) => {
      for (const { isIntersecting, target } of seen)
        if (isIntersecting) say(slides.indexOf(/** @type {any} */ (target)))
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
  // A click beside the picture.
  strip.addEventListener('click', ({ target }) => {
    if (!(target instanceof HTMLImageElement)) dialog.close()
  })
  const before = document.activeElement
  const navigated = () => dialog.close()
  addEventListener('hashchange', navigated)
  dialog.addEventListener('close', () => {
    removeEventListener('hashchange', navigated)
    watcher.disconnect()
    dialog.remove()
    if (before instanceof HTMLElement) before.focus()
  })
  document.body.append(dialog)
  dialog.showModal()
  strip.focus()
  go(current, 'instant')
}

/** Does the reader want nothing to move? */
const calm = () => matchMedia('(prefers-reduced-motion: reduce)').matches
