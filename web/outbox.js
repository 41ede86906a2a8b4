// @ts-check
// The queue of unsent changes. One tab sends them in order and reports the progress to the others. Entries that were
// written offline, or whose upload failed, are sent again with the same Idempotency-Key.

import { call, deleteOnUnload, upload } from './api.js'
import { randomKey, withLock } from './locks.js'
import * as photos from './photos.js'
import { HttpError, Unreachable, session } from './session.js'
import * as store from './store.js'
import { blocksOf } from './text.js'

/**
 * @typedef {import('./types').Entry} Entry
 * @typedef {import('./types').Dream} Dream
 * @typedef {import('./types').Progress} Progress
 */

export const UNDO_SECONDS = 7 // time to undo a deletion

const MAX_BACKOFF = 60 // seconds between attempts

/** Emits `change` (of the queue), `progress` (`detail` is the entry's key) and `sent` (`detail` is `{entry, dream}`). */
class Outbox extends EventTarget {
  /** @type {Entry[]} */
  entries = []
  /** @type {Map<string, Progress>} */
  progress = new Map()
  #tabs = new BroadcastChannel('dreamlog outbox')
  #running = false
  #requested = false
  #failures = 0
  /** @type {Set<string>} entries of this tab, which only this tab can undo */
  #own = new Set()
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer
  /** @type {{key: string, controller: AbortController} | null} */
  #sending = null

  constructor() {
    super()
    this.#tabs.onmessage = ({ data }) => {
      if (data.progress) this.#setProgress(data.key, data.progress)
      else if (data.stop) this.#abort(data.stop)
      else this.#load().then(() => this.wake()) // the tab that added an entry may close before it is sent
    }
    addEventListener('online', () => this.wake())
    addEventListener('pagehide', () => this.#sendDeletions())
  }

  /** Load the entries of the signed-in user, and send them. */
  async open() {
    await this.#load()
    this.wake()
    if (session.user) await store.collectPhotos(session.user.id)
  }

  close() {
    clearTimeout(this.#timer)
    this.#sending?.controller.abort()
    this.entries = []
    this.progress.clear()
  }

  /**
   * @param {Omit<import('./types').Create, 'key' | 'user' | 'state' | 'problem'>
   *   | Omit<import('./types').Change, 'key' | 'user' | 'state' | 'problem'>
   *   | Omit<import('./types').Delete, 'key' | 'user' | 'state' | 'problem'>} written
   * @param {string} [draftKey] the draft that the entry replaces
   * @returns {Promise<string>} the entry's key
   */
  async add(written, draftKey) {
    const user = /** @type {import('./types').User} */ (session.user).id
    const entry = /** @type {Entry} */ ({ ...written, key: randomKey(), user, state: 'waiting', problem: null })
    this.#own.add(entry.key)
    await store.addEntry(entry, draftKey)
    await this.#reload()
    this.wake()
    return entry.key
  }

  /**
   * Stop sending an entry and remove it; `draft` takes its place.
   * @param {Entry} entry @param {import('./types').Draft} [draft]
   */
  async withdraw(entry, draft) {
    this.#abort(entry.key)
    this.#tabs.postMessage({ stop: entry.key })
    await store.removeEntry(entry, draft)
    await this.#reload()
  }

  /** Send a stopped entry again. @param {Entry} entry */
  async retry(entry) {
    await store.saveEntry({ ...entry, state: 'waiting', problem: null })
    await this.#reload()
    this.#failures = 0
    this.wake()
  }

  /** @param {string} key */
  find(key) {
    return this.entries.find((entry) => entry.key === key)
  }

  /** Whether the last attempt did not reach the server. */
  get failing() {
    return this.#failures > 0
  }

  /** Start sending, unless this tab is sending already. */
  wake() {
    clearTimeout(this.#timer)
    this.#requested = true
    if (!this.#running && session.user) this.#run()
  }

  async #run() {
    this.#running = true
    try {
      await withLock('dreamlog outbox', async () => {
        while (this.#requested && session.user) {
          this.#requested = false
          await this.#load()
          await this.#sendAll()
        }
      })
    } finally {
      this.#running = false
    }
  }

  async #sendAll() {
    /** @type {Set<string>} */
    const blocked = new Set() // dreams with an earlier unsent change
    let next = Infinity
    for (const entry of [...this.entries]) {
      const dream = entry.kind === 'create' ? entry.key : entry.dreamId
      const wait = entry.notBefore - Date.now()
      if (entry.state === 'stopped' || blocked.has(dream) || wait > 0) {
        blocked.add(dream)
        if (wait > 0) next = Math.min(next, wait)
        continue
      }
      try {
        await this.#send(entry)
        this.#failures = 0
      } catch (error) {
        blocked.add(dream)
        const pause = await this.#onFailure(entry, error)
        next = Math.min(next, pause)
        if (error instanceof Unreachable) break
      }
    }
    if (next < Infinity) this.#timer = setTimeout(() => this.wake(), next)
  }

  /** @param {Entry} entry @param {unknown} error @returns {Promise<number>} milliseconds until the next attempt */
  async #onFailure(entry, error) {
    if (error instanceof DOMException && error.name === 'AbortError') return Infinity
    this.progress.delete(entry.key)
    if (error instanceof Unreachable || (error instanceof HttpError && error.status === 429)) {
      // Exponential backoff from half a second, with jitter to spread the clients after a restart of the server.
      const pause = Math.min(MAX_BACKOFF, 0.5 * 2 ** this.#failures++) * (0.5 + Math.random() / 2)
      this.dispatchEvent(new Event('change'))
      return 1000 * Math.max(pause, error.retryAfter ?? 0)
    }
    if (!(error instanceof HttpError)) throw error
    if (error.status === 401) return Infinity // the entry waits until its user signs in again
    if (error.status === 404 && entry.kind === 'change') {
      await store.removeEntry(entry, asNewDraft(entry))
      await this.#reload()
      return Infinity
    }
    await store.saveEntry({ ...entry, state: 'stopped', problem: { status: error.status, detail: error.message } })
    await this.#reload()
    return Infinity
  }

  /** @param {Entry} entry */
  async #send(entry) {
    const controller = new AbortController()
    this.#sending = { key: entry.key, controller }
    try {
      const dream = await this.#deliver(entry, controller.signal)
      await store.removeEntry(entry)
      if (entry.kind !== 'delete') await photos.remove(entry.photos)
      this.progress.delete(entry.key)
      this.dispatchEvent(new CustomEvent('sent', { detail: { entry, dream } }))
      await this.#reload()
    } finally {
      this.#sending = null
    }
  }

  /** @param {Entry} entry @param {AbortSignal} signal @returns {Promise<Dream | null>} */
  async #deliver(entry, signal) {
    const path = entry.kind === 'create' ? '/api/dreams' : `/api/dreams/${entry.dreamId}`
    if (entry.kind === 'delete') {
      await call('DELETE', path, { signal }).catch(ignoreNotFound)
      return null
    }
    if (entry.kind === 'create') return this.#upload(path, form(entry.photos, entry.fields), entry.key, signal)
    /** @type {Dream} */
    let dream = await call('PATCH', path, { body: { ...entry.fields, images: entry.positions }, signal })
    if (entry.photos.length) dream = await this.#upload(`${path}/images`, form(entry.photos), entry.key, signal)
    for (const id of entry.remove) await call('DELETE', `${path}/images/${id}`, { signal }).catch(ignoreNotFound)
    return entry.remove.length ? call('GET', path, { signal }) : dream
  }

  /** @param {string} path @param {FormData} form @param {string} key @param {AbortSignal} signal */
  #upload(path, form, key, signal) {
    /** @param {Progress} progress */
    const onProgress = (progress) => {
      this.#setProgress(key, progress)
      this.#tabs.postMessage({ key, progress })
    }
    return upload(path, form, { key, onProgress, signal })
  }

  /** @param {string} key @param {Progress} progress */
  #setProgress(key, progress) {
    this.progress.set(key, progress)
    this.dispatchEvent(new CustomEvent('progress', { detail: key }))
  }

  /** @param {string} key */
  #abort(key) {
    if (this.#sending?.key === key) this.#sending.controller.abort()
  }

  /** Send deletions at once when the page closes: nobody can undo them any more. */
  #sendDeletions() {
    for (const entry of this.entries) {
      if (entry.kind === 'delete' && entry.state === 'waiting' && this.#own.has(entry.key)) {
        deleteOnUnload(`/api/dreams/${entry.dreamId}`).catch(() => {}) // the entry stays in the queue
      }
    }
  }

  async #reload() {
    await this.#load()
    this.#tabs.postMessage({})
  }

  async #load() {
    const entries = session.user ? await store.listEntries(session.user.id) : []
    await photos.load(entries.flatMap((entry) => (entry.kind === 'delete' ? [] : entry.photos)))
    this.entries = entries
    this.dispatchEvent(new Event('change'))
  }
}

/**
 * @param {readonly import('./types').PlacedPhoto[]} placed
 * @param {import('./types').DreamFields} [fields]
 */
function form(placed, fields) {
  const form = new FormData()
  if (fields) {
    form.append('title', fields.title)
    form.append('content', fields.content)
    form.append('dreamed_at', fields.dreamed_at)
    form.append('mood', fields.mood ?? '')
    form.append('lucidity', fields.lucidity === null ? '' : String(fields.lucidity))
    for (const tag of fields.tags) form.append('tags', tag)
  }
  for (const { position } of placed) form.append('positions', String(position))
  for (const { key } of placed) form.append('images', photos.blob(key) ?? new Blob(), 'photo')
  return form
}

/**
 * Turn a change of a dream that was deleted elsewhere into the draft of a new dream.
 * @param {import('./types').Change} change @returns {import('./types').Draft | undefined}
 */
function asNewDraft({ key, user, fields, photos }) {
  const { title, content, dreamed_at, mood = null, lucidity = null, tags = [] } = fields
  if (title === undefined || content === undefined || !dreamed_at) return undefined // the change only removed pictures
  const given = { title, dreamed_at, mood, lucidity, tags }
  const blocks = blocksOf(content, photos, ({ key, width, height }) => ({ photo: { key, width, height } }))
  return { key: `new-${key}`, user, dreamId: null, fields: given, blocks, changedAt: Date.now() }
}

/** @param {unknown} error */
function ignoreNotFound(error) {
  if (!(error instanceof HttpError && error.status === 404)) throw error
}

export const outbox = new Outbox()
