// @ts-check
// What was written here and is not on the server yet. One tab sends, in the order of writing; the others are told.
// A dream that was written offline, or whose upload broke off, is sent again under the same Idempotency-Key.

import { call, deleteAtTheEnd, upload } from './api.js'
import { alone, key } from './locks.js'
import * as photos from './photos.js'
import { Refused, Unreachable, session } from './session.js'
import * as store from './store.js'
import { blocksOf } from './text.js'

/**
 * @typedef {import('./types').Entry} Entry
 * @typedef {import('./types').Dream} Dream
 * @typedef {import('./types').Progress} Progress
 */

export const UNDO = 7 // seconds in which a deletion can be taken back

const LONGEST_PAUSE = 60 // seconds between tries

/** Emits `change` (the list), `progress` (`detail` is the entry's key), `sent` (`detail` is `{entry, dream}`). */
class Outbox extends EventTarget {
  /** @type {Entry[]} */
  entries = []
  /** @type {Map<string, Progress>} */
  progress = new Map()
  #tabs = new BroadcastChannel('dreamlog outbox')
  #running = false
  #again = false
  #failures = 0
  /** @type {Set<string>} entries that were written in this tab: those that it can take back */
  #ours = new Set()
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer
  /** @type {{key: string, controller: AbortController} | null} */
  #sending = null

  constructor() {
    super()
    this.#tabs.onmessage = ({ data }) => {
      if (data.progress) this.#tellProgress(data.key, data.progress)
      else if (data.stop) this.#abort(data.stop)
      else this.#load().then(() => this.wake()) // the tab that wrote it may be closed before it has gone out
    }
    addEventListener('online', () => this.wake())
    addEventListener('pagehide', () => this.#lastDeletions())
  }

  /** Somebody is signed in: what they wrote is read, and sent. */
  async open() {
    await this.#load()
    this.wake()
    if (session.user) await store.sweepPhotos(session.user.id)
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
   * @param {string} [draftKey] the draft that it was
   * @returns {Promise<string>} the entry's key
   */
  async add(written, draftKey) {
    const user = /** @type {import('./types').User} */ (session.user).id
    const entry = /** @type {Entry} */ ({ ...written, key: key(), user, state: 'waiting', problem: null })
    this.#ours.add(entry.key)
    await store.send(entry, draftKey)
    await this.#changed()
    this.wake()
    return entry.key
  }

  /**
   * Stop sending an entry and take it out; `draft` is kept in its place.
   * @param {Entry} entry @param {import('./types').Draft} [draft]
   */
  async takeBack(entry, draft) {
    this.#abort(entry.key)
    this.#tabs.postMessage({ stop: entry.key })
    await store.takeBack(entry, draft)
    await this.#changed()
  }

  /** Try a stopped entry again. @param {Entry} entry */
  async retry(entry) {
    await store.keepEntry({ ...entry, state: 'waiting', problem: null })
    await this.#changed()
    this.#failures = 0
    this.wake()
  }

  /** @param {string} key */
  find(key) {
    return this.entries.find((entry) => entry.key === key)
  }

  /** Did the last try not reach the server? */
  get failing() {
    return this.#failures > 0
  }

  /** Look for something to send. */
  wake() {
    clearTimeout(this.#timer)
    this.#again = true
    if (!this.#running && session.user) this.#run()
  }

  async #run() {
    this.#running = true
    try {
      await alone('dreamlog outbox', async () => {
        while (this.#again && session.user) {
          this.#again = false
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
    const blocked = new Set() // dreams of which an earlier change has not gone out
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
        const pause = await this.#failed(entry, error)
        next = Math.min(next, pause)
        if (error instanceof Unreachable) break
      }
    }
    if (next < Infinity) this.#timer = setTimeout(() => this.wake(), next)
  }

  /** @param {Entry} entry @param {unknown} error @returns {Promise<number>} milliseconds until the next try */
  async #failed(entry, error) {
    if (error instanceof DOMException && error.name === 'AbortError') return Infinity
    this.progress.delete(entry.key)
    if (error instanceof Unreachable || (error instanceof Refused && error.status === 429)) {
      // Half a second, doubling; a random part keeps many phones apart after a restart.
      const pause = Math.min(LONGEST_PAUSE, 0.5 * 2 ** this.#failures++) * (0.5 + Math.random() / 2)
      this.dispatchEvent(new Event('change'))
      return 1000 * Math.max(pause, error.retryAfter ?? 0)
    }
    if (!(error instanceof Refused)) throw error
    if (error.status === 401) return Infinity // signed out; it waits for its writer
    if (error.status === 404 && entry.kind === 'change') {
      await store.takeBack(entry, asNewDraft(entry))
      await this.#changed()
      return Infinity
    }
    await store.keepEntry({ ...entry, state: 'stopped', problem: { status: error.status, detail: error.message } })
    await this.#changed()
    return Infinity
  }

  /** @param {Entry} entry */
  async #send(entry) {
    const controller = new AbortController()
    this.#sending = { key: entry.key, controller }
    try {
      const dream = await this.#deliver(entry, controller.signal)
      await store.takeBack(entry)
      if (entry.kind !== 'delete') await photos.drop(entry.photos)
      this.progress.delete(entry.key)
      this.dispatchEvent(new CustomEvent('sent', { detail: { entry, dream } }))
      await this.#changed()
    } finally {
      this.#sending = null
    }
  }

  /** @param {Entry} entry @param {AbortSignal} signal @returns {Promise<Dream | null>} */
  async #deliver(entry, signal) {
    const path = entry.kind === 'create' ? '/api/dreams' : `/api/dreams/${entry.dreamId}`
    if (entry.kind === 'delete') {
      await call('DELETE', path, { signal }).catch(unlessGone)
      return null
    }
    if (entry.kind === 'create') return this.#upload(path, form(entry.photos, entry.fields), entry.key, signal)
    /** @type {Dream} */
    let dream = await call('PATCH', path, { body: { ...entry.fields, images: entry.positions }, signal })
    if (entry.photos.length) dream = await this.#upload(`${path}/images`, form(entry.photos), entry.key, signal)
    for (const id of entry.remove) await call('DELETE', `${path}/images/${id}`, { signal }).catch(unlessGone)
    return entry.remove.length ? call('GET', path, { signal }) : dream
  }

  /** @param {string} path @param {FormData} form @param {string} key @param {AbortSignal} signal */
  #upload(path, form, key, signal) {
    /** @param {Progress} progress */
    const onProgress = (progress) => {
      this.#tellProgress(key, progress)
      this.#tabs.postMessage({ key, progress })
    }
    return upload(path, form, { key, onProgress, signal })
  }

  /** @param {string} key @param {Progress} progress */
  #tellProgress(key, progress) {
    this.progress.set(key, progress)
    this.dispatchEvent(new CustomEvent('progress', { detail: key }))
  }

  /** @param {string} key */
  #abort(key) {
    if (this.#sending?.key === key) this.#sending.controller.abort()
  }

  /** Deletions that wait to be undone, by a page that is closed: nobody will undo them now. */
  #lastDeletions() {
    for (const entry of this.entries) {
      if (entry.kind === 'delete' && entry.state === 'waiting' && this.#ours.has(entry.key)) {
        deleteAtTheEnd(`/api/dreams/${entry.dreamId}`).catch(() => {}) // it is still in the list, for the next time
      }
    }
  }

  async #changed() {
    await this.#load()
    this.#tabs.postMessage({})
  }

  async #load() {
    const entries = session.user ? await store.entries(session.user.id) : []
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
 * The dream was deleted on another device: what was written here becomes a draft of a new one.
 * @param {import('./types').Change} change @returns {import('./types').Draft | undefined}
 */
function asNewDraft({ key, user, fields, photos }) {
  const { title, content, dreamed_at, mood = null, lucidity = null, tags = [] } = fields
  if (title === undefined || content === undefined || !dreamed_at) return undefined // it only removed pictures
  const given = { title, dreamed_at, mood, lucidity, tags }
  const blocks = blocksOf(content, photos, ({ key, width, height }) => ({ photo: { key, width, height } }))
  return { key: `new-${key}`, user, dreamId: null, fields: given, blocks, changedAt: Date.now() }
}

/** @param {unknown} error */
function unlessGone(error) {
  if (!(error instanceof Refused && error.status === 404)) throw error
}

export const outbox = new Outbox()
