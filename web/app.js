// @ts-check
// The application: chooses the view for the URL and the user, and offers what all views share.

import { h, iconButton, isTyping, toast } from './dom.js'
import { journal } from './journal.js'
import { outbox } from './outbox.js'
import { loadServer } from './server.js'
import { HttpError, Unreachable, session } from './session.js'
import { saveSetting, setting } from './settings.js'
import * as store from './store.js'
import { blocksOf } from './text.js'
import { showAccount } from './views/account.js'
import { dreamView } from './views/dream.js'
import { listView } from './views/list.js'
import { signInView } from './views/sign_in.js'
import { draftOf, writeView } from './views/write.js'
import { language, setLanguage, t } from './words.js'

/** @typedef {import('./types').View} View */

const root = /** @type {HTMLElement} */ (document.getElementById('app'))

export class App {
  /** @type {View | null} */
  #view = null
  /** @type {{hash: string, view: View, scroll: number} | null} the list stays in memory while a dream is open */
  #list = null

  async start() {
    setLanguage(language)
    this.setTheme(setting('theme') ?? '')
    loadServer()
    addEventListener('hashchange', () => this.show())
    document.addEventListener('keydown', (event) => this.#onKey(event))
    // The browser would open a picture that is dropped outside the editor, in place of the page.
    for (const type of ['dragover', 'drop']) document.addEventListener(type, rejectDrop)
    session.addEventListener('user', () => this.#onUser())
    session.addEventListener('leaving', () => this.#closeViews())
    session.addEventListener('out', () => this.#onSignedOut())
    session.addEventListener('in', () => outbox.wake())
    try {
      await session.start()
    } catch {
      return this.#showError(t('no_storage'))
    }
    if (!session.user) this.show()
    else if (!session.confirmed) await this.#onUser()
    registerServiceWorker()
  }

  // ---- views

  show() {
    this.#leave()
    if (!session.user) return this.#put(signInView(this))
    const [path, query = ''] = location.hash.replace(/^#/, '').split('?')
    const [, place = '', id = ''] = path.split('/')
    if (place === 'dream' && id) return this.#put(dreamView(id, this))
    if (place === 'edit' && id) return this.#put(writeView({ draftKey: '', dreamId: id }, this))
    if (place === 'write') return this.#put(writeView({ draftKey: id, dreamId: '' }, this))
    const hash = location.hash || '#/'
    if (this.#list?.hash === hash) return this.#restore(this.#list)
    this.#list?.view.close()
    this.#list = { hash, view: listView(new URLSearchParams(query), this), scroll: 0 }
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
    this.updateTitle(view)
    scrollTo(0, 0)
    // The keyboard and screen readers start at the new view.
    if (document.activeElement === document.body) view.element.focus({ preventScroll: true })
  }

  /** @param {{view: View, scroll: number}} list */
  #restore({ view, scroll }) {
    this.#put(view)
    scrollTo(0, scroll)
    view.resume?.()
  }

  /** @param {View} view */
  #frame(view) {
    const isList = view === this.#list?.view
    const home = isList || !session.user
    const start = home
      ? h('a', { class: 'brand', href: '#/' }, t('name'))
      : h('a', { class: 'brand', href: this.#list?.hash ?? '#/', 'aria-label': t('journal') }, '‹ ', t('journal'))
    return [
      h('a', { class: 'skip', href: '#content', on: { click: skipToContent } }, t('skip')),
      h(
        'header',
        { class: 'top' },
        h('nav', { 'aria-label': t('name') }, start),
        iconButton('more', t('settings'), () => showAccount(this)),
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
    } else if (event.key === 'Escape' && location.hash.startsWith('#/dream')) this.go(this.#list?.hash ?? '#/')
    else return
    event.preventDefault()
  }

  // ---- signing in and out

  async #onUser() {
    this.#closeViews()
    await outbox.open()
    this.show()
  }

  #onSignedOut() {
    this.#closeViews()
    outbox.close()
    this.show()
  }

  /** Remove everything of the last user from the screen. */
  #closeViews() {
    this.#leave()
    this.#list?.view.close()
    this.#list = null
    journal.close()
  }

  /** @param {string} text */
  #showError(text) {
    root.replaceChildren(
      h('main', { class: 'narrow' }, h('div', { class: 'empty' }, h('h1', null, t('name')), h('p', null, text))),
    )
  }

  // ---- for the views

  /** @param {string} hash */
  go(hash) {
    if (location.hash === hash) this.show()
    else location.hash = hash
  }

  /** Go to another view, without a way back to this one. @param {string} hash */
  redirect(hash) {
    history.replaceState(null, '', hash)
    this.show()
  }

  /** Change the URL of the current view. @param {string} hash */
  replaceUrl(hash) {
    history.replaceState(null, '', hash)
    if (this.#list && this.#view === this.#list.view) this.#list.hash = hash
  }

  /** @param {View} view */
  updateTitle(view) {
    if (view === this.#view) document.title = view.title === t('name') ? t('name') : `${view.title} · ${t('name')}`
  }

  /** Announce a text to users of screen readers. @param {string} text */
  announce(text) {
    const status = /** @type {HTMLElement} */ (document.getElementById('announcement'))
    status.textContent = text
  }

  /** @param {unknown} error */
  errorText(error) {
    if (error instanceof Unreachable) return t('unreachable')
    return t('something_wrong', { detail: error instanceof HttpError ? error.message : String(error) })
  }

  /** @param {'en' | 'zh'} chosen */
  changeLanguage(chosen) {
    saveSetting('language', chosen)
    setLanguage(chosen)
    this.#list?.view.close()
    if (this.#view === this.#list?.view) this.#view = null
    this.#list = null
    this.show()
  }

  /** @param {string} theme 'dark', 'light', or '' for the system's */
  setTheme(theme) {
    saveSetting('theme', theme)
    document.documentElement.dataset.theme = theme
    const colour = getComputedStyle(document.documentElement).getPropertyValue('--night').trim()
    if (colour) document.querySelector('meta[name=theme-color]')?.setAttribute('content', colour)
  }

  /**
   * Turn an unsent entry back into a draft, and edit it.
   * @param {import('./types').Entry} entry @param {import('./types').ShownDream} dream as the page shows it
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
    await outbox.withdraw(entry, { key, user: entry.user, dreamId, fields, blocks, changedAt: Date.now() })
    this.redirect(dreamId ? `#/edit/${dreamId}` : `#/write/${key}`)
  }
}

/** @param {Event} event */
function rejectDrop(event) {
  const { dataTransfer } = /** @type {DragEvent} */ (event)
  if (event.defaultPrevented || !dataTransfer?.types.includes('Files')) return
  event.preventDefault()
  dataTransfer.dropEffect = 'none'
}

/** @param {Event} event */
function skipToContent(event) {
  event.preventDefault() // the hash is the URL of the view
  document.getElementById('content')?.focus()
}

/** Makes the page and the pictures it has shown available offline. Needs https, or localhost. */
async function registerServiceWorker() {
  if (!('serviceWorker' in navigator)) return
  /** @type {any} */
  const types = /** @type {any} */ (globalThis).trustedTypes
  const policy = types?.createPolicy('dreamlog', {
    createScriptURL: (/** @type {string} */ url) => (url === '/sw.js' ? url : ''),
  })
  const previous = navigator.serviceWorker.controller
  await navigator.serviceWorker.register(policy ? policy.createScriptURL('/sw.js') : '/sw.js').catch(() => {})
  navigator.serviceWorker.addEventListener('controllerchange', () => {
    if (previous) toast(t('new_version'), { label: t('reload'), act: () => location.reload(), seconds: 60 })
  })
}

new App().start()
