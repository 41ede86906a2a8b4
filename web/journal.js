// @ts-check
// The dreams of the signed-in user: from the server or, offline, from this device, and with all unsent changes. Every
// view gets its dreams here.

import { call } from './api.js'
import { outbox } from './outbox.js'
import * as photos from './photos.js'
import { HttpError, Unreachable, session } from './session.js'
import * as store from './store.js'

/**
 * @typedef {import('./types').Dream} Dream
 * @typedef {import('./types').Entry} Entry
 * @typedef {import('./types').Image} Image
 * @typedef {import('./types').ShownDream} ShownDream
 * @typedef {import('./types').ShownImage} ShownImage
 * @typedef {{q?: string, tag?: string, from?: string, to?: string}} Query nights as 2026-11-22, inclusive
 */

const MAX_BACKOFF = 60 // seconds between attempts
const LOCAL = 'local-' // prefix of the id of an unsent dream, before the key of its entry

/** Emits `dream` when a dream has changed or was deleted (`detail` is its id), and `list` when the list has changed. */
class Journal extends EventTarget {
  /** @type {Map<string, Dream>} */
  #dreams = new Map()
  /** @type {Map<string, string>} dream and image -> key of the photo on this device */
  #photos = new Map()
  /** @type {Map<string, {image: Image, revision: number}>} dream and image -> an image newer than its dream */
  #newerImages = new Map()
  /** @type {Map<string, string>} key of a sent entry -> id of its dream */
  #createdIds = new Map()
  #tabs = new BroadcastChannel('dreamlog dreams')

  constructor() {
    super()
    this.#tabs.onmessage = ({ data }) => {
      if (data.user !== session.user?.id) return
      if (data.gone) this.#delete(data.gone)
      else if (data.sent) this.#onSentElsewhere(data.sent)
      else if (this.#update(data.dream) && data.isNew) this.#emit('list')
    }
    outbox.addEventListener('progress', (event) => this.#onProgress(/** @type {CustomEvent} */ (event).detail))
    outbox.addEventListener('sent', (event) => {
      const { detail: sent } = /** @type {CustomEvent} */ (event)
      // Before the dream itself, which other tabs would otherwise list in addition to the unsent one.
      this.#tabs.postMessage({ user: session.user?.id, sent })
      this.#onSent(sent)
    })
  }

  close() {
    this.#dreams.clear()
    this.#photos.clear()
    this.#createdIds.clear()
    this.#newerImages.clear()
  }

  /**
   * A page of dreams, newest night first.
   * @param {Query} query @param {string | null} cursor @param {number} limit @param {AbortSignal} [signal]
   * @returns {Promise<{ids: string[], cursor: string | null, offline: boolean}>}
   */
  async page(query, cursor, limit, signal) {
    const wanted = Object.entries({ ...query, cursor, limit }).filter(([, value]) => value)
    const parameters = new URLSearchParams(/** @type {any} */ (wanted))
    try {
      const { items, next_cursor } = await call('GET', `/api/dreams?${parameters}`, { signal })
      for (const dream of items) this.put(dream)
      return { ids: items.map((/** @type {Dream} */ dream) => dream.id), cursor: next_cursor, offline: false }
    } catch (error) {
      if (!(error instanceof Unreachable)) throw error
      return { ids: await this.cachedIds(query), cursor: null, offline: true }
    }
  }

  /** The dreams on this device, newest night first. @param {Query} query @returns {Promise<string[]>} */
  async cachedIds(query) {
    const user = session.user?.id ?? ''
    const found = (await store.listDreams(user)).filter((dream) => matches(dream, query))
    for (const dream of found) this.#update(dream)
    return found.map(({ id }) => id)
  }

  /**
   * @param {string} id @returns {Promise<ShownDream | null>} null when it does not exist
   * @throws {Unreachable} when the dream is not on this device either
   */
  async get(id) {
    if (!id.startsWith(LOCAL)) {
      try {
        this.put(await call('GET', `/api/dreams/${id}`))
      } catch (error) {
        if (error instanceof HttpError && error.status === 404) {
          this.remove(id)
          return null
        }
        if (!(error instanceof Unreachable)) throw error
        const kept = await this.cached(id)
        if (!kept) throw error
      }
    }
    return this.shown(id)
  }

  /**
   * Fetch a dream until it has at least this revision: the server announces each revision only once.
   * @param {string} id @param {number} revision
   */
  async catchUp(id, revision) {
    const behind = () => (this.#dreams.get(id)?.revision ?? revision) < revision // false once the dream is deleted
    for (let pause = 1; behind(); pause = Math.min(2 * pause, MAX_BACKOFF)) {
      await this.get(id).catch(() => {})
      if (behind()) await new Promise((resolve) => setTimeout(resolve, 1000 * pause * (0.5 + Math.random() / 2)))
    }
  }

  /** A dream from memory or from this device. @param {string} id @returns {Promise<ShownDream | null>} */
  async cached(id) {
    if (!this.#dreams.has(id) && session.user) {
      const kept = await store.getDream(session.user.id, id)
      if (kept) this.#update(kept)
    }
    return this.shown(id)
  }

  /** A dream with its unsent changes. @param {string} id @returns {ShownDream | null} */
  shown(id) {
    if (id.startsWith(LOCAL)) {
      const key = id.slice(LOCAL.length)
      const createdId = this.#createdIds.get(key)
      if (createdId) return this.shown(createdId)
      const entry = outbox.find(key)
      return entry?.kind === 'create' ? this.#unsentDream(entry) : null
    }
    const dream = this.#dreams.get(id)
    const pending = outbox.entries.filter((entry) => entry.kind !== 'create' && entry.dreamId === id)
    if (!dream || pending.some((entry) => entry.kind === 'delete')) return null
    const images = dream.images.map((image) => this.#shownImage(id, image))
    /** @type {ShownDream} */
    const unchanged = { ...dream, images, pending: null }
    return pending.reduce((shown, entry) => this.#withChange(shown, entry), unchanged)
  }

  /** The ids of unsent dreams, newest first. @param {Query} query */
  unsentIds(query) {
    const ids = outbox.entries.filter(({ kind }) => kind === 'create').map(({ key }) => LOCAL + key)
    return ids.filter((id) => matches(/** @type {ShownDream} */ (this.shown(id)), query)).reverse()
  }

  /** The server's id of a dream that has been sent, or else `id`. @param {string} id */
  currentId(id) {
    return this.#createdIds.get(id.slice(LOCAL.length)) ?? id
  }

  /** @param {string} key of an entry of the outbox */
  localId(key) {
    return LOCAL + key
  }

  /** Take in a dream from the server. @param {Dream} dream */
  put(dream) {
    const isNew = !this.#dreams.has(dream.id)
    if (!this.#update(dream)) return
    const user = session.user?.id
    if (!user) return
    this.#tabs.postMessage({ user, dream, isNew })
    store.saveDream(user, dream).catch(() => {}) // on a full disk, the dream will not be available offline
  }

  /**
   * Take in one picture, ahead of its dream.
   * @param {string} id @param {Image} image @param {number} revision
   */
  putImage(id, image, revision) {
    const dream = this.#dreams.get(id)
    if (!dream || revision <= dream.revision) return
    this.#newerImages.set(`${id} ${image.id}`, { image, revision })
    this.#emit('dream', id)
  }

  /** A dream was deleted. @param {string} id */
  remove(id) {
    this.#delete(id)
    if (session.user) this.#tabs.postMessage({ user: session.user.id, gone: id })
  }

  /** The tags of all dreams in memory, the most used first. */
  tags() {
    /** @type {Map<string, number>} */
    const counts = new Map()
    for (const { tags } of this.#dreams.values()) for (const tag of tags) counts.set(tag, (counts.get(tag) ?? 0) + 1)
    return [...counts.keys()].sort((a, b) => (counts.get(b) ?? 0) - (counts.get(a) ?? 0) || a.localeCompare(b))
  }

  /** @param {Dream} dream @returns {boolean} whether it was newer */
  #update(dream) {
    const known = this.#dreams.get(dream.id)
    if (known && known.revision > dream.revision) return false
    const isNewer = !known || known.revision < dream.revision
    this.#dreams.set(dream.id, dream) // also with an equal revision: the URLs are newer
    if (isNewer) this.#emit('dream', dream.id)
    return isNewer
  }

  /** @param {string} id */
  #delete(id) {
    this.#dreams.delete(id)
    if (session.user) store.deleteDream(session.user.id, id)
    this.#emit('dream', id)
    this.#emit('list')
  }

  /** @param {{entry: Entry, dream: Dream | null}} sent */
  #onSent({ entry, dream }) {
    if (entry.kind === 'delete') return this.remove(entry.dreamId)
    if (!dream) return
    // Image ids increase in upload order, so the last ones belong to this entry.
    const ids = dream.images.map(({ id }) => id).sort((a, b) => a - b)
    const ours = entry.photos.length ? ids.slice(-entry.photos.length) : []
    ours.forEach((id, index) => this.#photos.set(`${dream.id} ${id}`, entry.photos[index].key))
    if (entry.kind === 'create') this.#createdIds.set(entry.key, dream.id)
    this.put(dream)
    if (entry.kind === 'create') this.#emit('dream', LOCAL + entry.key)
  }

  /** Another tab has sent an entry. @param {{entry: Entry, dream: Dream | null}} sent */
  #onSentElsewhere(sent) {
    this.#onSent(sent)
    if (sent.entry.kind === 'create') this.#emit('list')
  }

  /** @param {string} key */
  #onProgress(key) {
    const entry = outbox.find(key)
    if (entry && entry.kind !== 'delete') this.#emit('dream', entry.kind === 'create' ? LOCAL + key : entry.dreamId)
  }

  /** @param {string} id @param {Image} image @returns {ShownImage} */
  #shownImage(id, image) {
    const dream = /** @type {Dream} */ (this.#dreams.get(id))
    const newer = this.#newerImages.get(`${id} ${image.id}`)
    if (newer && newer.revision > dream.revision) image = newer.image
    const photo = this.#photos.get(`${id} ${image.id}`)
    return { ...image, key: photo ?? `${image.id}`, preview: (photo && photos.url(photo)) || null }
  }

  /** @param {import('./types').PlacedPhoto} photo @returns {ShownImage} */
  #unsentImage(photo) {
    const { key, position, width, height } = photo
    const nothing = { url: null, variants: {}, animated: false, placeholder: null, attempt: 1, error: null }
    return { ...nothing, id: 0, key, position, width, height, status: 'uploading', preview: photos.url(key) || null }
  }

  /** @param {import('./types').Create} entry @returns {ShownDream} */
  #unsentDream(entry) {
    const now = new Date().toISOString()
    const images = entry.photos.map((photo) => this.#unsentImage(photo))
    const moment = { status: /** @type {const} */ ('processing'), revision: 0, created_at: now, updated_at: now }
    return { ...entry.fields, ...moment, id: LOCAL + entry.key, images, pending: entry }
  }

  /** @param {ShownDream} dream @param {Entry} entry @returns {ShownDream} */
  #withChange(dream, entry) {
    if (entry.kind !== 'change') return dream
    const positions = new Map(entry.positions.map(({ id, position }) => [id, position]))
    const there = dream.images
      .filter(({ id }) => !entry.remove.includes(id))
      .map((image) => ({ ...image, position: positions.get(image.id) ?? image.position }))
    const images = [...there, ...entry.photos.map((photo) => this.#unsentImage(photo))]
    images.sort((a, b) => a.position - b.position)
    return { ...dream, ...entry.fields, images, pending: entry }
  }

  /** @param {string} type @param {string} [detail] */
  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }))
  }
}

/**
 * The same search as the server's: all words must occur.
 * @param {import('./types').DreamFields} dream @param {Query} query
 */
function matches(dream, { q = '', tag, from, to }) {
  const text = [dream.title, dream.content, ...dream.tags].join('\n').toLowerCase()
  const night = dream.dreamed_at.slice(0, 10)
  return (
    q
      .toLowerCase()
      .split(/\s+/)
      .every((word) => text.includes(word)) &&
    (!tag || dream.tags.includes(tag)) &&
    (!from || night >= from) &&
    (!to || night <= to)
  )
}

export const journal = new Journal()
