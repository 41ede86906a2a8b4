// @ts-check
// Dreamlog's client for many dreams over one connection. It needs frontend_example.js beside it.
//
//   const client = new ManyDreamsWebSocketClient(accessToken, (message) => show(message.dream_id, message))
//   client.connect()
//   client.subscribe(dreams.map(({ id }) => id))

import { DreamState, LiveConnection, after } from './frontend_example.js'

/**
 * @typedef {import('./frontend_example').Message} Message
 * @typedef {import('./frontend_example').ImageUpdate} ImageUpdate
 * @typedef {import('./frontend_example').Image} Image
 * @typedef {import('./frontend_example').Options} Options
 * @typedef {import('./frontend_example').Token} Token
 */

const MESSAGE = 4000 // bytes; the server takes 4096 in one
const MOST = 1000 // the server's limit for one connection
const POLL = 10_000 // milliseconds between two looks, where no WebSocket gets through

export class ManyDreamsWebSocketClient extends LiveConnection {
  /** @type {Map<string, DreamState>} */
  #dreams = new Map()

  /**
   * @param {Token} authToken an access token, or a function that gives a fresh one: asked before each connection
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
   * Be told of these too, now and after each reconnection. At most 1000 in all; what is beyond is left out.
   * @param {Iterable<string>} dreamIds those subscribed already change nothing
   */
  subscribe(dreamIds) {
    const added = [...new Set(dreamIds)].filter((id) => !this.#dreams.has(id)).slice(0, MOST - this.#dreams.size)
    for (const id of added) this.#dreams.set(id, new DreamState())
    this.#say('subscribe', added)
  }

  /** @param {Iterable<string>} dreamIds */
  unsubscribe(dreamIds) {
    const gone = [...dreamIds].filter((id) => this.#dreams.delete(id))
    this.#say('unsubscribe', gone)
  }

  opened() {
    this.#say('subscribe', [...this.#dreams.keys()])
    // The answer shows that the connection works: where no dream is subscribed, nothing else comes.
    this.send({ type: 'ping', timestamp: Date.now() / 1000 })
  }

  /** @param {Message} message */
  received(message) {
    if (!('dream_id' in message) || !message.dream_id) return
    const state = this.#dreams.get(message.dream_id)
    if (!state) return
    if (message.type === 'connection_established') this.call(this.options.onConnected, message)
    else if (message.type === 'image_update') {
      if (state.isNews(message)) this.call(this.handleImageUpdate, message)
    } else if (message.type === 'image_progress') {
      if (state.isNews(message)) this.call(this.options.onProgress, message)
    } else if (message.type === 'heartbeat') {
      // Subscribing again shows the state again.
      if (message.revision > state.revision) this.#say('subscribe', [message.dream_id])
    } else if (message.type === 'dream_deleted') {
      this.#dreams.delete(message.dream_id)
      this.call(this.options.onDeleted, message)
    } else if (message.type === 'error' && message.code === 'not_found') this.#dreams.delete(message.dream_id)
  }

  /**
   * Without a WebSocket: one look after another. Streams would use up the few connections a browser has.
   * @param {string} token @param {AbortSignal} signal @param {(message: Message | null) => void} hear
   */
  async carry(token, signal, hear) {
    for (;;) {
      for (const [id, state] of [...this.#dreams]) hear(await this.#look(id, state, token, signal))
      hear(noNews()) // also when there is no dream to look at
      await new Promise((resolve) => after(POLL, signal, () => resolve(null)))
    }
  }

  /**
   * @param {string} id @param {DreamState} state @param {string} token @param {AbortSignal} signal
   * @returns {Promise<Message>}
   */
  async #look(id, state, token, signal) {
    try {
      const path = `/api/dreams/${encodeURIComponent(id)}?since=${state.told}&wait=0`
      const response = await this.get(path, token, signal)
      return response.status === 304 ? noNews() : update(await response.json())
    } catch (error) {
      if (/** @type {{closeCode?: number}} */ (error).closeCode !== 4403) throw error
      if (state.told) return { type: 'dream_deleted', dream_id: id, timestamp: Date.now() / 1000 }
      return { type: 'error', code: 'not_found', message: 'There is no such dream.', dream_id: id }
    }
  }

  /** @param {'subscribe' | 'unsubscribe'} type @param {string[]} ids */
  #say(type, ids) {
    const message = { type, dream_ids: ids }
    const half = Math.ceil(ids.length / 2)
    if (ids.length > 1 && new TextEncoder().encode(JSON.stringify(message)).length > MESSAGE) {
      this.#say(type, ids.slice(0, half))
      this.#say(type, ids.slice(half))
    } else if (ids.length) this.send(message)
  }
}

/** What a server says that has nothing to tell. @returns {Message} */
function noNews() {
  return { type: 'pong', timestamp: Date.now() / 1000 }
}

/** A dream, as the message that would have told of it. @param {any} dream @returns {ImageUpdate} */
function update(dream) {
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
