// @ts-check
// Client library for many dreams over one connection. To use it, copy this file and dreamlog.js into the same folder.
//
//   const client = new ManyDreamsWebSocketClient(accessToken, (message) => show(message.dream_id, message))
//   client.connect()
//   client.subscribe(dreams.map(({ id }) => id))

import { DreamState, LiveConnection, after } from './dreamlog.js'

/**
 * @typedef {import('./dreamlog').Message} Message
 * @typedef {import('./dreamlog').ImageUpdate} ImageUpdate
 * @typedef {import('./dreamlog').Image} Image
 * @typedef {import('./dreamlog').Options} Options
 * @typedef {import('./dreamlog').Token} Token
 */

const MAX_MESSAGE = 4000 // bytes; the server accepts 4096
const MAX_DREAMS = 1000 // the server's limit per connection
const POLL_INTERVAL = 10_000 // milliseconds between two rounds of polling, where WebSockets do not work

export class ManyDreamsWebSocketClient extends LiveConnection {
  /** @type {Map<string, DreamState>} */
  #dreams = new Map()

  /**
   * @param {Token} authToken an access token, or a function that returns a fresh one, called before each connection
   * @param {(message: ImageUpdate) => void} handleImageUpdate called with each `image_update`, which names its dream
   * @param {Options} [options]
   */
  constructor(authToken, handleImageUpdate, options = {}) {
    super(authToken, options)
    this.handleImageUpdate = handleImageUpdate
  }

  get path() {
    return '/ws/dream-images/'
  }

  /**
   * Receive the messages of these dreams too, now and after each reconnection. At most 1000 in all; the rest is ignored.
   * @param {Iterable<string>} dreamIds may include subscribed ones
   */
  subscribe(dreamIds) {
    const added = [...new Set(dreamIds)].filter((id) => !this.#dreams.has(id)).slice(0, MAX_DREAMS - this.#dreams.size)
    for (const id of added) this.#dreams.set(id, new DreamState())
    this.#sendIds('subscribe', added)
  }

  /** @param {Iterable<string>} dreamIds */
  unsubscribe(dreamIds) {
    const gone = [...dreamIds].filter((id) => this.#dreams.delete(id))
    this.#sendIds('unsubscribe', gone)
  }

  handleOpen() {
    this.#sendIds('subscribe', [...this.#dreams.keys()])
    // The pong shows that the connection works; without a subscription, the server sends nothing else.
    this.send({ type: 'ping', timestamp: Date.now() / 1000 })
  }

  /** @param {Message} message */
  handleMessage(message) {
    if (!('dream_id' in message) || !message.dream_id) return
    const state = this.#dreams.get(message.dream_id)
    if (!state) return
    if (message.type === 'connection_established') this.invoke(this.options.onConnected, message)
    else if (message.type === 'image_update') {
      if (state.accept(message)) this.invoke(this.handleImageUpdate, message)
    } else if (message.type === 'image_progress') {
      if (state.accept(message)) this.invoke(this.options.onProgress, message)
    } else if (message.type === 'heartbeat') {
      // The server answers every subscription with the current state.
      if (message.revision > state.revision) this.#sendIds('subscribe', [message.dream_id])
    } else if (message.type === 'dream_deleted') {
      this.#dreams.delete(message.dream_id)
      this.invoke(this.options.onDeleted, message)
    } else if (message.type === 'error' && message.code === 'not_found') this.#dreams.delete(message.dream_id)
  }

  /**
   * Poll one dream after another. Event streams would use up the few connections that a browser allows.
   * @param {string} token @param {AbortSignal} signal @param {(message: Message | null) => void} deliver
   */
  async fallback(token, signal, deliver) {
    for (;;) {
      for (const [id, state] of [...this.#dreams]) deliver(await this.#poll(id, state, token, signal))
      deliver(unchanged()) // also without any dream: the connection works
      await new Promise((resolve) => after(POLL_INTERVAL, signal, () => resolve(null)))
    }
  }

  /**
   * @param {string} id @param {DreamState} state @param {string} token @param {AbortSignal} signal
   * @returns {Promise<Message>}
   */
  async #poll(id, state, token, signal) {
    try {
      const path = `/api/dreams/${encodeURIComponent(id)}?since=${state.updateRevision}&wait=0`
      const response = await this.get(path, token, signal)
      return response.status === 304 ? unchanged() : toImageUpdate(await response.json())
    } catch (error) {
      if (/** @type {{closeCode?: number}} */ (error).closeCode !== 4403) throw error
      if (state.updateRevision) return { type: 'dream_deleted', dream_id: id, timestamp: Date.now() / 1000 }
      return { type: 'error', code: 'not_found', message: 'There is no such dream.', dream_id: id }
    }
  }

  /** @param {'subscribe' | 'unsubscribe'} type @param {string[]} ids */
  #sendIds(type, ids) {
    const message = { type, dream_ids: ids }
    const half = Math.ceil(ids.length / 2)
    if (ids.length > 1 && new TextEncoder().encode(JSON.stringify(message)).length > MAX_MESSAGE) {
      this.#sendIds(type, ids.slice(0, half))
      this.#sendIds(type, ids.slice(half))
    } else if (ids.length) this.send(message)
  }
}

/** Stands for an answer without an update. @returns {Message} */
function unchanged() {
  return { type: 'pong', timestamp: Date.now() / 1000 }
}

/** A dream as the `image_update` that the server would have sent. @param {any} dream @returns {ImageUpdate} */
function toImageUpdate(dream) {
  const { id, status, revision, images } = dream
  /** @type {Image[]} */
  const ended = status === 'processing' ? [] : images
  return {
    type: 'image_update',
    dream_id: id,
    status,
    images: ended.flatMap(({ id, url, position }) => (url ? { id, url, position } : [])),
    failed_images: ended.flatMap(({ id, position, error }) => (error ? { id, position, error } : [])),
    timestamp: Date.now() / 1000,
    revision,
  }
}
