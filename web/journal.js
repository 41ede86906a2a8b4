// @ts-check
// The dreams of who is signed in: from the server, from this device when the server is out of reach, and always with
// what was written here and not sent yet. Every view shows dreams that come from here.

import { call } from './api.js'
import { outbox } from './outbox.js'
import * as photos from './photos.js'
import { Refused, Unreachable, session } from './session.js'
import * as store from './store.js'

/**
 * @typedef {import('./types').Dream} Dream
 * @typedef {import('./types').Entry} Entry
 * @typedef {import('./types').Image} Image
 * @typedef {import('./types').ShownDream} ShownDream
 * @typedef {import('./types').ShownImage} ShownImage
 * @typedef {{q?: string, tag?: string, from?: string, to?: string}} Query nights as 2026-11-22, inclusive
 */

const LONGEST_PAUSE = 60 // seconds between tries
const LOCAL = 'local-' // the id of a dream that the server does not have yet: this and the entry's key

/** Emits `dream` (`detail` is the id of one that has changed or gone) and `list` (the server has others now). */
class Journal extends EventTarget {
  /** @type {Map<string, Dream>} */
  #dreams = new Map()
  /** @type {Map<string, string>} dream and image -> the photo that it was here */
  #photos = new Map()
  /** @type {Map<string, {image: Image, revision: number}>} dream and image -> what is newer than the dream we have */
  #ahead = new Map()
  /** @type {Map<string, string>} entry -> the dream that it became */
  #became = new Map()
  #tabs = new BroadcastChannel('dreamlog dreams')

  constructor() {
    super()
    this.#tabs.onmessage = ({ data }) => {
      if (data.user !== session.user?.id) return
      if (data.gone) this.#drop(data.gone)
      else if (data.sent) this.#sentThere(data.sent)
      else if (this.#keep(data.dream) && data.isNew) this.#emit('list')
    }
    outbox.addEventListener('progress', (event) => this.#progressed(/** @type {CustomEvent} */ (event).detail))
    outbox.addEventListener('sent', (event) => {
      const { detail: sent } = /** @type {CustomEvent} */ (event)
      // First: the dream alone would be another one to them than the one that they show on its way.
      this.#tabs.postMessage({ user: session.user?.id, sent })
      this.#sent(sent)
    })
  }

  close() {
    this.#dreams.clear()
    this.#photos.clear()
    this.#became.clear()
    this.#ahead.clear()
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
      for (const dream of items) this.learn(dream)
      return { ids: items.map((/** @type {Dream} */ dream) => dream.id), cursor: next_cursor, offline: false }
    } catch (error) {
      if (!(error instanceof Unreachable)) throw error
      return { ids: await this.kept(query), cursor: null, offline: true }
    }
  }

  /** The dreams on this device, newest night first. @param {Query} query @returns {Promise<string[]>} */
  async kept(query) {
    const user = session.user?.id ?? ''
    const found = (await store.dreams(user)).filter((dream) => matches(dream, query))
    for (const dream of found) this.#keep(dream)
    return found.map(({ id }) => id)
  }

  /**
   * @param {string} id @returns {Promise<ShownDream | null>} null: there is none
   * @throws {Unreachable} and it is not on this device either
   */
  async get(id) {
    if (!id.startsWith(LOCAL)) {
      try {
        this.learn(await call('GET', `/api/dreams/${id}`))
      } catch (error) {
        if (error instanceof Refused && error.status === 404) {
          this.gone(id)
          return null
        }
        if (!(error instanceof Unreachable)) throw error
        const kept = await this.known(id)
        if (!kept) throw error
      }
    }
    return this.shown(id)
  }

  /**
   * The server has told that it has a newer one: fetch that, again until it comes, because news is not told twice.
   * @param {string} id @param {number} revision
   */
  async catchUp(id, revision) {
    const behind = () => (this.#dreams.get(id)?.revision ?? revision) < revision // one that has gone is not
    for (let pause = 1; behind(); pause = Math.min(2 * pause, LONGEST_PAUSE)) {
      await this.get(id).catch(() => {})
      if (behind()) await new Promise((resolve) => setTimeout(resolve, 1000 * pause * (0.5 + Math.random() / 2)))
    }
  }

  /** What this device knows of it. @param {string} id @returns {Promise<ShownDream | null>} */
  async known(id) {
    if (!this.#dreams.has(id) && session.user) {
      const kept = await store.dream(session.user.id, id)
      if (kept) this.#keep(kept)
    }
    return this.shown(id)
  }

  /** As it is to be seen now. @param {string} id @returns {ShownDream | null} */
  shown(id) {
    if (id.startsWith(LOCAL)) {
      const key = id.slice(LOCAL.length)
      const became = this.#became.get(key)
      if (became) return this.shown(became)
      const entry = outbox.find(key)
      return entry?.kind === 'create' ? this.#local(entry) : null
    }
    const dream = this.#dreams.get(id)
    const pending = outbox.entries.filter((entry) => entry.kind !== 'create' && entry.dreamId === id)
    if (!dream || pending.some((entry) => entry.kind === 'delete')) return null
    const images = dream.images.map((image) => this.#image(id, image))
    /** @type {ShownDream} */
    const unchanged = { ...dream, images, pending: null }
    return pending.reduce((shown, entry) => this.#changed(shown, entry), unchanged)
  }

  /** Those written here that the server does not have yet, newest first. @param {Query} query */
  waiting(query) {
    const ids = outbox.entries.filter(({ kind }) => kind === 'create').map(({ key }) => LOCAL + key)
    return ids.filter((id) => matches(/** @type {ShownDream} */ (this.shown(id)), query)).reverse()
  }

  /** Its id as it is by now. @param {string} id */
  lasting(id) {
    return this.#became.get(id.slice(LOCAL.length)) ?? id
  }

  /** @param {string} key of an entry of the outbox */
  localId(key) {
    return LOCAL + key
  }

  /** A dream that the server has sent. @param {Dream} dream */
  learn(dream) {
    const isNew = !this.#dreams.has(dream.id)
    if (!this.#keep(dream)) return
    const user = session.user?.id
    if (!user) return
    this.#tabs.postMessage({ user, dream, isNew })
    store.keepDream(user, dream).catch(() => {}) // a full disk: it will not open offline
  }

  /**
   * One picture of it is finished; the dream itself follows.
   * @param {string} id @param {Image} image @param {number} revision
   */
  learnImage(id, image, revision) {
    const dream = this.#dreams.get(id)
    if (!dream || revision <= dream.revision) return
    this.#ahead.set(`${id} ${image.id}`, { image, revision })
    this.#emit('dream', id)
  }

  /** It was deleted. @param {string} id */
  gone(id) {
    this.#drop(id)
    if (session.user) this.#tabs.postMessage({ user: session.user.id, gone: id })
  }

  /** Every tag that this device has seen, the most used first. */
  tags() {
    /** @type {Map<string, number>} */
    const counts = new Map()
    for (const { tags } of this.#dreams.values()) for (const tag of tags) counts.set(tag, (counts.get(tag) ?? 0) + 1)
    return [...counts.keys()].sort((a, b) => (counts.get(b) ?? 0) - (counts.get(a) ?? 0) || a.localeCompare(b))
  }

  /** @param {Dream} dream @returns {boolean} is it news */
  #keep(dream) {
    const known = this.#dreams.get(dream.id)
    if (known && known.revision > dream.revision) return false
    const news = !known || known.revision < dream.revision
    this.#dreams.set(dream.id, dream) // also when equal: its addresses are newer
    if (news) this.#emit('dream', dream.id)
    return news
  }

  /** @param {string} id */
  #drop(id) {
    this.#dreams.delete(id)
    if (session.user) store.dropDream(session.user.id, id)
    this.#emit('dream', id)
    this.#emit('list')
  }

  /** @param {{entry: Entry, dream: Dream | null}} sent */
  #sent({ entry, dream }) {
    if (entry.kind === 'delete') return this.gone(entry.dreamId)
    if (!dream) return
    // Ids are given in the order of sending, and only grow: the last ones are ours.
    const ids = dream.images.map(({ id }) => id).sort((a, b) => a - b)
    const ours = entry.photos.length ? ids.slice(-entry.photos.length) : []
    ours.forEach((id, index) => this.#photos.set(`${dream.id} ${id}`, entry.photos[index].key))
    if (entry.kind === 'create') this.#became.set(entry.key, dream.id)
    this.learn(dream)
    if (entry.kind === 'create') this.#emit('dream', LOCAL + entry.key)
  }

  /** Another tab has sent it. @param {{entry: Entry, dream: Dream | null}} sent */
  #sentThere(sent) {
    this.#sent(sent)
    if (sent.entry.kind === 'create') this.#emit('list')
  }

  /** @param {string} key */
  #progressed(key) {
    const entry = outbox.find(key)
    if (entry && entry.kind !== 'delete') this.#emit('dream', entry.kind === 'create' ? LOCAL + key : entry.dreamId)
  }

  /** @param {string} id @param {Image} image @returns {ShownImage} */
  #image(id, image) {
    const dream = /** @type {Dream} */ (this.#dreams.get(id))
    const ahead = this.#ahead.get(`${id} ${image.id}`)
    if (ahead && ahead.revision > dream.revision) image = ahead.image
    const photo = this.#photos.get(`${id} ${image.id}`)
    return { ...image, key: photo ?? `${image.id}`, preview: (photo && photos.url(photo)) || null }
  }

  /** @param {import('./types').PlacedPhoto} photo @returns {ShownImage} */
  #uploading(photo) {
    const { key, position, width, height } = photo
    const nothing = { url: null, variants: {}, animated: false, placeholder: null, attempt: 1, error: null }
    return { ...nothing, id: 0, key, position, width, height, status: 'uploading', preview: photos.url(key) || null }
  }

  /** @param {import('./types').Create} entry @returns {ShownDream} */
  #local(entry) {
    const now = new Date().toISOString()
    const images = entry.photos.map((photo) => this.#uploading(photo))
    const moment = { status: /** @type {const} */ ('processing'), revision: 0, created_at: now, updated_at: now }
    return { ...entry.fields, ...moment, id: LOCAL + entry.key, images, pending: entry }
  }

  /** @param {ShownDream} dream @param {Entry} entry @returns {ShownDream} */
  #changed(dream, entry) {
    if (entry.kind !== 'change') return dream
    const positions = new Map(entry.positions.map(({ id, position }) => [id, position]))
    const there = dream.images
      .filter(({ id }) => !entry.remove.includes(id))
      .map((image) => ({ ...image, position: positions.get(image.id) ?? image.position }))
    const images = [...there, ...entry.photos.map((photo) => this.#uploading(photo))]
    images.sort((a, b) => a.position - b.position)
    return { ...dream, ...entry.fields, images, pending: entry }
  }

  /** @param {string} type @param {string} [detail] */
  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }))
  }
}

/** As the server searches: every word somewhere. @param {import('./types').DreamFields} dream @param {Query} query */
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
