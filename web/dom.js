// @ts-check
// Elements, icons and toasts. Text is always inserted as text, never as HTML.

const SVG = 'http://www.w3.org/2000/svg'

/** Strokes on a 24 by 24 grid, drawn for this page. */
const ICONS = {
  add: 'M12 5v14M5 12h14',
  back: 'M15 5l-7 7 7 7',
  calendar: 'M4 6h16v14H4zM4 10h16M8 3v4M16 3v4',
  camera: 'M4 8h3l2-3h6l2 3h3v11H4zM12 17a4 4 0 1 0 0-8 4 4 0 0 0 0 8z',
  close: 'M6 6l12 12M18 6L6 18',
  down: 'M12 5v14M6 13l6 6 6-6',
  edit: 'M4 20l1-4L16 5l3 3L8 19zM14 7l3 3',
  forward: 'M9 5l7 7-7 7',
  moon: 'M20 14.5A8.5 8.5 0 1 1 9.5 4a7 7 0 0 0 10.5 10.5z',
  more: 'M4 7h16M4 12h16M4 17h16',
  photo: 'M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15.5 9.5h.01',
  remove: 'M5 7h14M10 4h4M7 7l1 13h8l1-13M10 11v5M14 11v5',
  retry: 'M5 12a7 7 0 1 1 2 5M5 19v-4h4',
  search: 'M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13zM15.5 15.5L20 20',
  up: 'M12 19V5M6 11l6-6 6 6',
}

/** @typedef {Record<string, any>} Props */

/**
 * Create an element. `on` has event listeners, `style` has CSS properties, and a name that begins with a dot is a DOM
 * property. `true` sets an empty attribute; null, undefined and false set none.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Props | null} [props]
 * @param {...(Node | string | number | null | undefined | false | (Node | null | false)[])} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function h(tag, props, ...children) {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue
    if (name === 'on') for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener)
    else if (name === 'style') for (const [property, each] of Object.entries(value)) setStyle(element, property, each)
    else if (name.startsWith('.')) /** @type {any} */ (element)[name.slice(1)] = value
    else element.setAttribute(name, value === true ? '' : String(value))
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined && child !== false) element.append(/** @type {any} */ (child))
  }
  return element
}

/** @param {HTMLElement} element @param {string} property @param {unknown} value null removes it */
export function setStyle(element, property, value) {
  if (value === null || value === undefined) element.style.removeProperty(property)
  else element.style.setProperty(property, String(value))
}

/** @param {keyof typeof ICONS} name */
export function icon(name) {
  const svg = document.createElementNS(SVG, 'svg')
  svg.setAttribute('viewBox', '0 0 24 24')
  svg.setAttribute('class', 'icon')
  svg.setAttribute('aria-hidden', 'true')
  const path = document.createElementNS(SVG, 'path')
  path.setAttribute('d', ICONS[name])
  svg.append(path)
  return svg
}

/**
 * A button with an icon; the label is its accessible name and its tooltip.
 * @param {keyof typeof ICONS} name @param {string} label
 * @param {(event: MouseEvent) => void} click @param {Props} [props]
 */
export function iconButton(name, label, click, props) {
  return h(
    'button',
    { type: 'button', class: 'plain', 'aria-label': label, title: label, on: { click }, ...props },
    icon(name),
  )
}

/**
 * Fill `element`, unless it shows this `state` already: a button that is replaced between touchstart and touchend gets
 * no click.
 * @param {HTMLElement} element @param {unknown} state everything that `build` depends on
 * @param {() => (Node | null | false)[]} build
 */
export function refill(element, state, build) {
  const now = JSON.stringify(state)
  if (element.dataset.state === now) return
  element.dataset.state = now
  element.replaceChildren(...build().filter((node) => node instanceof Node))
}

/**
 * Run `work`, which may remove or move the focused element, and keep the focus inside `element`.
 * @param {HTMLElement} element @param {() => void} work
 */
export function keepFocus(element, work) {
  const before = document.activeElement
  const inside = element.contains(before)
  work()
  if (!inside || element.contains(document.activeElement)) return
  const stays = before instanceof HTMLElement && element.contains(before) && before.checkVisibility()
  ;(stays ? before : element).focus({ preventScroll: true })
}

const toasts = () => /** @type {HTMLElement} */ (document.getElementById('toasts'))

/**
 * Show a short message at the bottom; screen readers announce it. `action` adds a button and sets the duration.
 * @param {string} text
 * @param {{label: string, act: () => void, seconds: number}} [action]
 */
export function toast(text, action) {
  const seconds = action?.seconds ?? 5
  const dismiss = () => {
    clearTimeout(timer)
    const hadFocus = element.contains(document.activeElement)
    element.remove()
    if (hadFocus) document.getElementById('content')?.focus({ preventScroll: true })
  }
  const button =
    action &&
    h('button', { type: 'button', class: 'link', on: { click: () => (dismiss(), action.act()) } }, action.label)
  const element = h('div', { class: 'toast' }, h('span', null, text), button)
  const timer = setTimeout(dismiss, 1000 * seconds)
  toasts().append(element)
}

/** Whether the user is typing, so that single keys are no shortcuts. @param {EventTarget | null} target */
export function isTyping(target) {
  return target instanceof HTMLElement && target.closest('input, textarea, select, [contenteditable]') !== null
}
