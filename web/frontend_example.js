// @ts-check
// Dreamlog's client for one dream: told of its pictures the moment each is ready, or has failed. Copy this file; it
// needs nothing else. Types for TypeScript: frontend_example.d.ts. A client for many dreams: many_dreams.js.
//
//   const client = new DreamImageWebSocketClient(dream.id, accessToken, (message) => {
//     if (message.status === 'completed') for (const { id, url } of message.images) show(id, url)
//   })
//   client.connect()

/**
 * @typedef {import('./frontend_example').Message} Message
 * @typedef {import('./frontend_example').ErrorMessage} ErrorMessage
 * @typedef {import('./frontend_example').ImageUpdate} ImageUpdate
 * @typedef {import('./frontend_example').ImageProgress} ImageProgress
 * @typedef {import('./frontend_example').Options} Options
 * @typedef {import('./frontend_example').Token} Token
 * @typedef {import('./frontend_example').Status} Status
 * @typedef {import('./frontend_example').StatusDetail} StatusDetail
 */

const PING = 30_000 // milliseconds, here and below
const SILENCE = 60_000 // the server says something every 25 s
const OPENING = 15_000 // a network that swallows everything lets a socket wait for minutes
const ANSWER = 5_000 // for a ping's answer, once there is doubt
const SHORTEST = 1_000
const LONGEST = 30_000
const RESTART = 5_000
const STABLE = 60_000
const QUICK = 5_000 // a connection that lives shorter has not worked
const TOO_OFTEN = 3 // quick failures of WebSockets, before the other carrier is tried
const WEBSOCKET_AGAIN = 300_000 // after which the other carrier gives way to another try
const RENEWAL = 10_000 // between two answers to `token_expiring`: tokens that last less than a minute bring it at once
const MOST_SECONDS = 3600 // a longer wait was not meant, and timers have an end

// How a stream of events says what a WebSocket says by its close code.
/** @type {Record<string, number>} */
const ENDINGS = { restarting: 1012, token_expired: 4101, signed_out_elsewhere: 4101, signed_out: 4401 }

/**
 * A connection that is kept: authenticated, watched, made again. What is said on it is for the class above.
 * Each attempt, and each wait for the next, has an AbortController of its own, `#run`: whatever belongs to it ends with
 * it, and what comes late finds its signal aborted. So callbacks may close and connect at any time.
 */
export class LiveConnection {
  /** @type {AbortController | null} null: closed */
  #run = null
  /** @type {'websocket' | 'events'} */
  #carrier = 'websocket'
  /** @type {WebSocket | null} this attempt's */
  #socket = null
  /** @type {ErrorMessage | null} the last of this attempt */
  #error = null
  /** @type {(() => void) | null} ends the wait for the next attempt */
  #hurry = null
  /** @type {Promise<string | null | undefined> | null} a token that is on its way */
  #asked = null
  #open = false // authenticated, and heard
  #began = 0
  #heard = 0
  #renewed = -Infinity
  #failures = 0 // since the last connection that was stable
  #quick = 0 // failures of WebSockets, one after the other
  #eventsUntil = 0 // until then no WebSocket is tried

  /** @param {Token} authToken @param {Options} options */
  constructor(authToken, options) {
    this.authToken = authToken
    this.options = options
    this.base = new URL(options.url ?? '/', globalThis.location?.href).href.replace(/\/$/, '')
  }

  // ---- for everybody

  /** Connect, and stay connected until `close`. Again while connected: nothing. */
  connect() {
    if (this.#run) return
    globalThis.addEventListener?.('online', this.#online)
    globalThis.document?.addEventListener('visibilitychange', this.#visible)
    this.#failures = this.#quick = this.#eventsUntil = 0
    this.#attempt()
  }

  close() {
    this.#stop(1000)
  }

  // ---- for the class above

  /** @returns {string} the WebSocket's path */
  get path() {
    throw new Error('not implemented')
  }

  /** @param {Message} _message */
  received(_message) {}

  /** The connection is open, and not yet authenticated: what is sent now follows the token. */
  opened() {}

  /**
   * The same without a WebSocket: hand each message to `hear` until the signal is aborted.
   * @param {string} _token @param {AbortSignal} _signal @param {(message: Message | null) => void} _hear
   * @returns {Promise<void>}
   */
  async carry(_token, _signal, _hear) {}

  /** @param {object} message does nothing while there is no WebSocket */
  send(message) {
    if (this.#socket?.readyState === 1) this.#socket.send(JSON.stringify(message))
  }

  /** Something was missed: a new connection begins with the state. */
  again() {
    if (this.#run) this.#later(0, { atOnce: true })
  }

  /**
   * An answer of the API. One that is an error is thrown, with the close code that means the same.
   * @param {string} path @param {string} token @param {AbortSignal} signal
   */
  async get(path, token, signal) {
    const ask = this.options.fetch ?? fetch
    const headers = { Authorization: `Bearer ${token}` }
    const response = await ask(this.base + path, { headers, signal, cache: 'no-store' })
    if (response.ok || response.status === 304) return response
    // A token that worked has run out; one that never did is wrong.
    const closeCode = { 401: this.#open ? 4101 : 4401, 404: 4403, 429: 4129 }[response.status]
    const retryAfter = Number(response.headers.get('Retry-After'))
    throw Object.assign(new Error(`HTTP ${response.status}`), { closeCode, retryAfter })
  }

  /**
   * A mistake in a callback is reported, and breaks nothing here.
   * @param {((...args: any[]) => unknown) | undefined} callback @param {...unknown} args
   */
  async call(callback, ...args) {
    try {
      await callback?.(...args)
    } catch (error) {
      const report = globalThis.reportError ?? console.error
      report(error)
    }
  }

  // ---- one attempt

  async #attempt() {
    const signal = this.#begin()
    this.#tell('connecting', {})
    if (signal.aborted) return
    let token
    try {
      token = await this.#token()
    } catch {
      if (!signal.aborted) this.#later(0) // it could not be fetched just now
      return
    }
    if (signal.aborted) return
    if (!token) return this.#stop(4401)
    this.#began = this.#heard = Date.now()
    // Often, because a sleeping laptop stops timers: the clock tells how long it slept.
    every(ANSWER, signal, () => this.#silentFor(this.#open ? SILENCE : OPENING) && this.#ended(0))
    this.#carrier = Date.now() < this.#eventsUntil ? 'events' : 'websocket'
    if (this.#carrier === 'events') this.#useEvents(token, signal)
    else this.#useWebSocket(token, signal)
  }

  /** One at a time: fetching a token may use up a refresh token, and using that twice would end the session. */
  #token() {
    const ask = async () => (typeof this.authToken === 'function' ? this.authToken() : this.authToken)
    return (this.#asked ??= ask().finally(() => (this.#asked = null)))
  }

  /** A new attempt or wait, and the end of what was before. */
  #begin() {
    this.#leave()
    this.#run = new AbortController()
    return this.#run.signal
  }

  #leave() {
    this.#run?.abort()
    this.#run = this.#socket = this.#error = this.#hurry = null
    this.#open = false
    this.#renewed = -Infinity
  }

  /** @param {string} token @param {AbortSignal} signal */
  #useWebSocket(token, signal) {
    try {
      const Socket = this.options.WebSocket ?? WebSocket
      this.#socket = new Socket(this.base.replace(/^http/, 'ws') + this.path)
    } catch {
      return this.#ended(0) // there is none here, or a policy forbids it
    }
    const socket = this.#socket
    let opened = false
    signal.addEventListener('abort', () => socket.close(1000))
    // Node 20 tells of a handshake that failed by this alone; browsers say it, and close.
    socket.onerror = () => signal.aborted || opened || this.#ended(1006)
    socket.onopen = () => {
      if (signal.aborted) return
      opened = true
      this.#authenticate(token)
      this.opened()
      every(PING, signal, () => this.#ping())
    }
    socket.onmessage = ({ data }) => signal.aborted || this.#hear(parsed(data))
    socket.onclose = ({ code }) => signal.aborted || this.#ended(code)
  }

  /** @param {string} token @param {AbortSignal} signal */
  async #useEvents(token, signal) {
    after(this.#eventsUntil - Date.now(), signal, () => {
      this.#eventsUntil = 0
      this.again()
    })
    try {
      await this.carry(token, signal, (message) => signal.aborted || this.#hear(message))
      if (!signal.aborted) this.#ended(ENDINGS[this.#error?.code ?? ''] ?? 0)
    } catch (error) {
      if (signal.aborted) return
      const { closeCode = 0, retryAfter } = /** @type {{closeCode?: number, retryAfter?: number}} */ (error)
      this.#ended(closeCode, retryAfter)
    }
  }

  /** @param {Message | null} message null: something that is not a message */
  #hear(message) {
    const run = this.#run
    this.#heard = Date.now()
    if (message?.type === 'error') {
      this.#error = message
      this.call(this.options.onError, message)
    } else if (message && !this.#open) {
      this.#open = true
      this.#tell('connected', { carrier: this.#carrier })
    }
    if (!message || run !== this.#run) return
    if (message.type === 'token_expiring') this.#renew()
    else this.received(message)
  }

  /** Without a fresh token the connection ends with the old one, and comes back. */
  async #renew() {
    if (!this.#socket || typeof this.authToken !== 'function' || Date.now() - this.#renewed < RENEWAL) return
    this.#renewed = Date.now()
    const socket = this.#socket
    const token = await this.#token().catch(() => null)
    if (token && socket === this.#socket) this.#authenticate(token)
  }

  /** @param {string} token */
  #authenticate(token) {
    this.send({ type: 'authenticate', token: `Bearer ${token}` })
  }

  // ---- its end, and the next

  /**
   * An attempt is over. Close codes from 4400 mean stop, others come back.
   * @param {number} code 0: nobody said why @param {number} [retryAfter] seconds
   */
  #ended(code, retryAfter = this.#error?.retry_after) {
    if (code === 1000 || code >= 4400) return this.#stop(code)
    const explained = code >= 4000 || code === 1009 || code === 1012
    if (this.#carrier === 'events') {
      if (!this.#open) this.#eventsUntil = 0 // neither works: the two take turns
    } else if (explained || (this.#open && Date.now() - this.#began > QUICK)) this.#quick = 0
    else if (++this.#quick >= TOO_OFTEN) {
      this.#eventsUntil = Date.now() + WEBSOCKET_AGAIN
      this.#quick = TOO_OFTEN - 1 // after that, one more is enough
    }
    this.#later(code, { atOnce: code === 4101, retryAfter })
  }

  /**
   * @param {number} code
   * @param {{atOnce?: boolean, retryAfter?: number}} [how] `atOnce`: unless there was a failure before
   */
  #later(code, { atOnce = false, retryAfter = 0 } = {}) {
    if (this.#open && Date.now() - this.#began >= STABLE) this.#failures = 0
    const told = retryAfter > 0
    const wait = told ? 1000 * Math.min(retryAfter, MOST_SECONDS) + SHORTEST * Math.random() : this.#pause(code, atOnce)
    const signal = this.#begin()
    const next = () => this.#attempt()
    if (!told) this.#hurry = next
    after(wait, signal, next)
    this.#tell('waiting', { code, retryIn: wait / 1000 })
  }

  /** @param {number} code @param {boolean} atOnce @returns {number} milliseconds */
  #pause(code, atOnce) {
    if (code === 1012) return RESTART * Math.random()
    const failures = this.#failures++
    if (atOnce && failures === 0) return 0
    // Full jitter: after a failure of the network, a thousand clients come back spread over the whole pause.
    return Math.min(LONGEST, SHORTEST * 2 ** failures) * Math.random()
  }

  /** @param {number} code */
  #stop(code) {
    if (!this.#run) return
    this.#leave()
    globalThis.removeEventListener?.('online', this.#online)
    globalThis.document?.removeEventListener('visibilitychange', this.#visible)
    this.#tell('closed', { code })
  }

  // ---- is it alive

  /** @param {number} limit */
  #silentFor(limit) {
    return Math.abs(Date.now() - this.#heard) > limit // the clock may also be set back
  }

  #ping() {
    this.send({ type: 'ping', timestamp: Date.now() / 1000 })
  }

  /** The network is back, perhaps as another one. */
  #online = () => {
    this.#quick = this.#eventsUntil = 0
    if (this.#open && this.#carrier === 'events') this.again()
    else this.#wake()
  }

  #visible = () => {
    if (globalThis.document.visibilityState === 'visible') this.#wake()
  }

  /** What waits has waited long enough, and a WebSocket that seems open must show that it is. */
  #wake() {
    if (this.#hurry) return this.#hurry()
    if (!this.#run || !this.#open || !this.#socket) return
    const asked = Date.now()
    this.#ping()
    after(ANSWER, this.#run.signal, () => this.#heard < asked && this.#ended(0))
  }

  /** @param {Status} status @param {StatusDetail} detail */
  #tell(status, detail) {
    this.call(this.options.onStatus, status, detail)
  }
}

/** What was told of one dream, so that nothing is told twice, or out of its order. */
export class DreamState {
  #update = -1
  /** @type {Map<number, number>} */
  #images = new Map()

  /** That of the newest `image_update` told; 0: none. */
  get told() {
    return Math.max(0, this.#update)
  }

  /** The newest that is known. */
  get revision() {
    return Math.max(this.told, ...this.#images.values())
  }

  /**
   * Is it newer than what was told? The last picture's own message and the dream's that follows it carry the same
   * revision, so each picture, and the dream, are compared by themselves. A dream's state has all its pictures in it.
   * @param {ImageUpdate | ImageProgress} message
   */
  isNews(message) {
    const { revision } = message
    if (message.type === 'image_update') {
      if (revision <= this.#update) return false
      this.#update = revision
    } else {
      if (revision <= Math.max(this.#update, this.#images.get(message.image.id) ?? 0)) return false
      this.#images.set(message.image.id, revision)
    }
    return true
  }
}

/** One dream. See the top of this file, and docs/api.md. */
export class DreamImageWebSocketClient extends LiveConnection {
  #state = new DreamState()

  /**
   * @param {string} dreamId
   * @param {Token} authToken an access token, or a function that gives a fresh one: asked before each connection
   * @param {(message: ImageUpdate) => void} handleImageUpdate called with each `image_update`
   * @param {Options} [options]
   */
  constructor(dreamId, authToken, handleImageUpdate, options = {}) {
    super(authToken, options)
    this.dreamId = dreamId
    this.handleImageUpdate = handleImageUpdate
  }

  get path() {
    return `/ws/dream-images/${encodeURIComponent(this.dreamId)}/`
  }

  /** @param {Message} message */
  received(message) {
    if (message.type === 'connection_established') this.call(this.options.onConnected, message)
    else if (message.type === 'image_update') {
      if (this.#state.isNews(message)) this.call(this.handleImageUpdate, message)
    } else if (message.type === 'image_progress') {
      if (this.#state.isNews(message)) this.call(this.options.onProgress, message)
    } else if (message.type === 'heartbeat') {
      if (message.revision > this.#state.revision) this.again()
    } else if (message.type === 'dream_deleted') {
      this.call(this.options.onDeleted, message)
      this.close()
    }
  }

  /**
   * Server-sent events: the same messages, over a plain request.
   * @param {string} token @param {AbortSignal} signal @param {(message: Message | null) => void} hear
   */
  async carry(token, signal, hear) {
    const response = await this.get(`/api/dreams/${encodeURIComponent(this.dreamId)}/events`, token, signal)
    const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader()
    const decoder = new TextDecoder()
    let rest = ''
    let data = ''
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      const lines = (rest + decoder.decode(part.value, { stream: true })).split(/\r?\n/)
      rest = /** @type {string} */ (lines.pop())
      for (const line of lines) {
        if (line.startsWith('data:'))
          data += line.slice(5) // the server's are one line of JSON
        else if (line === '' && data) {
          hear(parsed(data))
          data = ''
        }
      }
    }
  }
}

/** @param {unknown} data @returns {Message | null} null: it is none, whoever put it there */
function parsed(data) {
  try {
    return JSON.parse(String(data))
  } catch {
    return null
  }
}

/** @param {number} milliseconds @param {AbortSignal} signal @param {() => void} work for which an abort is the end */
export function after(milliseconds, signal, work) {
  if (signal.aborted) return
  const stop = () => clearTimeout(timer)
  const timer = setTimeout(() => {
    signal.removeEventListener('abort', stop)
    work()
  }, milliseconds)
  signal.addEventListener('abort', stop)
}

/** @param {number} milliseconds @param {AbortSignal} signal @param {() => void} work */
function every(milliseconds, signal, work) {
  const timer = setInterval(work, milliseconds)
  signal.addEventListener('abort', () => clearInterval(timer))
}
