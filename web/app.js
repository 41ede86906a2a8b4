// @ts-check
// The page: which view is shown, who may see it, and what all views share.

import { h, iconButton, isTyping, toast } from './dom.js'
import { journal } from './journal.js'
import { outbox } from './outbox.js'
import { Refused, Unreachable, session } from './session.js'
import * as store from './store.js'
import { blocksOf } from './text.js'
import { showAccount } from './views/account.js'
import { dreamView } from './views/dream.js'
import { listView } from './views/list.js'
import { signInView } from './views/sign_in.js'
import { draftOf, writeView } from './views/write.js'
import { recall, remember, speak, t, language } from './words.js'

/** @typedef {import('./types').View} View */

const root = /** @type {HTMLElement} */ (document.getElementById('app'))

export class App {
  /** @type {View | null} */
  #view = null
  /** @type {{address: string, view: View, scroll: number} | null} the list, as it was left */
  #list = null

  async start() {
    speak(language)
    this.paint(recall('theme') ?? '')
    addEventListener('hashchange', () => this.show())
    document.addEventListener('keydown', (event) => this.#onKey(event))
    // A picture that is dropped beside the editor would take the page's place.
    for (const type of ['dragover', 'drop']) document.addEventListener(type, keepPage)
    session.addEventListener('user', () => this.#entered())
    session.addEventListener('leaving', () => this.#forget())
    session.addEventListener('out', () => this.#left())
    session.addEventListener('in', () => outbox.wake())
    try {
      await session.start()
    } catch {
      return this.#cannot(t('no_storage'))
    }
    if (!session.user) this.show()
    else if (!session.confirmed) await this.#entered()
    worker()
  }

  // ---- which view

  show() {
    this.#leave()
    if (!session.user) return this.#put(signInView(this))
    const [path, query = ''] = location.hash.replace(/^#/, '').split('?')
    const [, place = '', id = ''] = path.split('/')
    if (place === 'dream' && id) return this.#put(dreamView(id, this))
    if (place === 'edit' && id) return this.#put(writeView({ draftKey: '', dreamId: id }, this))
    if (place === 'write') return this.#put(writeView({ draftKey: id, dreamId: '' }, this))
    const address = location.hash || '#/'
    if (this.#list?.address === address) return this.#putBack(this.#list)
    this.#list?.view.close()
    this.#list = { address, view: listView(new URLSearchParams(query), this), scroll: 0 }
    return this.#put(this.#list.view)
  }

  #leave() {
    if (!this.#view) return
    if (this.#view === this.#list?.view) {
      this.#list.scroll = scrollY
      this.#list.view.pause?.()
    } else this.#view.close()
    this.#view = null
  }

  /** @param {View} view */
  #put(view) {
    this.#view = view
    root.replaceChildren(...this.#frame(view))
    this.titled(view)
    scrollTo(0, 0)
    // The keyboard, and who listens, begin at the new view.
    if (document.activeElement === document.body) view.element.focus({ preventScroll: true })
  }

  /** @param {{view: View, scroll: number}} list */
  #putBack({ view, scroll }) {
    this.#put(view)
    scrollTo(0, scroll)
    view.back?.()
  }

  /** @param {View} view */
  #frame(view) {
    const isList = view === this.#list?.view
    const home = isList || !session.user
    const start = home
      ? h('a', { class: 'brand', href: '#/' }, t('name'))
      : h('a', { class: 'brand', href: this.#list?.address ?? '#/', 'aria-label': t('journal') }, '‹ ', t('journal'))
    return [
      h('a', { class: 'skip', href: '#content', on: { click: skip } }, t('skip')),
      h(
        'header',
        { class: 'top' },
        h('nav', { 'aria-label': t('name') }, start),
        iconButton('more', t('menu'), () => showAccount(this)),
      ),
      view.element,
    ]
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target) || !session.user) return
    if (document.querySelector('dialog[open]')) return
    if (event.key === 'n') this.go('#/write')
    else if (event.key === '/') {
      const field = /** @type {HTMLElement | null} */ (document.querySelector('input[type=search]'))
      if (field) field.focus()
      else return
    } else if (event.key === 'Escape' && location.hash.startsWith('#/dream')) this.go(this.#list?.address ?? '#/')
    else return
    event.preventDefault()
  }

  // ---- who

  async #entered() {
    this.#forget()
    await outbox.open()
    this.show()
  }

  #left() {
    this.#forget()
    outbox.close()
    this.show()
  }

  /** Nothing of somebody else stays on the screen. */
  #forget() {
    this.#leave()
    this.#list?.view.close()
    this.#list = null
    journal.close()
  }

  /** @param {string} why */
  #cannot(why) {
    root.replaceChildren(
      h('main', { class: 'narrow' }, h('div', { class: 'empty' }, h('h1', null, t('name')), h('p', null, why))),
    )
  }

  // ---- for the views

  /** @param {string} address */
  go(address) {
    if (location.hash === address) this.show()
    else location.hash = address
  }

  /** Go there, and not back here. @param {string} address */
  replace(address) {
    history.replaceState(null, '', address)
    this.show()
  }

  /** What is shown has another address now. @param {string} address */
  renamed(address) {
    history.replaceState(null, '', address)
    if (this.#list && this.#view === this.#list.view) this.#list.address = address
  }

  /** @param {View} view */
  titled(view) {
    if (view === this.#view) document.title = view.title === t('name') ? t('name') : `${view.title} · ${t('name')}`
  }

  /** For who listens instead of looking. @param {string} text */
  speak(text) {
    const spoken = /** @type {HTMLElement} */ (document.getElementById('spoken'))
    spoken.textContent = text
  }

  /** @param {unknown} error */
  sentence(error) {
    if (error instanceof Unreachable) return t('unreachable')
    return t('something_wrong', { detail: error instanceof Refused ? error.message : String(error) })
  }

  /** @param {'en' | 'zh'} chosen */
  speakIn(chosen) {
    speak(chosen)
    this.#list?.view.close()
    if (this.#view === this.#list?.view) this.#view = null
    this.#list = null
    this.show()
  }

  /** @param {string} theme '', 'dark' or 'light' */
  paint(theme) {
    remember('theme', theme)
    document.documentElement.dataset.theme = theme
    const colour = getComputedStyle(document.documentElement).getPropertyValue('--night').trim()
    if (colour) document.querySelector('meta[name=theme-color]')?.setAttribute('content', colour)
  }

  /**
   * What was to be sent becomes a draft again.
   * @param {import('./types').Entry} entry @param {import('./types').ShownDream} dream as it is shown
   */
  async editAgain(entry, dream) {
    if (entry.kind === 'delete') return
    const { title, dreamed_at, mood, lucidity, tags, content, images } = dream
    const known = new Map(entry.photos.map((photo) => [photo.key, photo]))
    const blocks = blocksOf(content, images, (image) => {
      const photo = known.get(image.key)
      return photo ? { photo } : { image: /** @type {import('./types').Image} */ (image) }
    })
    const dreamId = entry.kind === 'create' ? null : entry.dreamId
    const key = dreamId ? draftOf(dreamId) : `new-${entry.key}`
    const fields = { title, dreamed_at, mood, lucidity, tags }
    await outbox.takeBack(entry, { key, user: entry.user, dreamId, fields, blocks, changedAt: Date.now() })
    this.replace(dreamId ? `#/edit/${dreamId}` : `#/write/${key}`)
  }
}

/** @param {Event} event */
function keepPage(event) {
  const { dataTransfer } = /** @type {DragEvent} */ (event)
  if (event.defaultPrevented || !dataTransfer?.types.includes('Files')) return
  event.preventDefault()
  dataTransfer.dropEffect = 'none'
}

/** @param {Event} event */
function skip(event) {
  event.preventDefault() // the hash is the address of the view
  document.getElementById('content')?.focus()
}

/** The shell and the pictures that were seen open without a network. Needs https, or localhost. */
async function worker() {
  if (!('serviceWorker' in navigator)) return
  /** @type {any} */
  const types = /** @type {any} */ (globalThis).trustedTypes
  const policy = types?.createPolicy('dreamlog', {
    createScriptURL: (/** @type {string} */ url) => (url === '/sw.js' ? url : ''),
  })
  const before = navigator.serviceWorker.controller
  await navigator.serviceWorker.register(policy ? policy.createScriptURL('/sw.js') : '/sw.js').catch(() => {})
  navigator.serviceWorker.addEventListener('controllerchange', () => {
    if (before) toast(t('new_version'), { label: t('reload'), undo: () => location.reload(), seconds: 60 })
  })
}

new App().start()
