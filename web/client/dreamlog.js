// @ts-check
// Client library: reports each picture of one dream the moment it is ready or has failed. To use it, copy this file; it
// has no dependencies. The TypeScript types are in dreamlog.d.ts; many_dreams.js is a client for many dreams.
//
//   const client = new DreamImageWebSocketClient(dream.id, accessToken, (message) => {
//     if (message.status === 'completed') for (const { id, url } of message.images) show(id, url)
//   })
//   client.connect()

/**
 * @typedef {import('./dreamlog').Message} Message
 * @typedef {import('./dreamlog').ErrorMessage} ErrorMessage
 * @typedef {import('./dreamlog').ImageUpdate} ImageUpdate
 * @typedef {import('./dreamlog').ImageProgress} ImageProgress
 * @typedef {import('./dreamlog').Options} Options
 * @typedef {import('./dreamlog').Token} Token
 * @typedef {import('./dreamlog').Status} Status
 * @typedef {import('./dreamlog').StatusDetail} StatusDetail
 */

const PING_INTERVAL = 30_000 // milliseconds, here and below
const SILENCE_LIMIT = 60_000 // the server sends a message every 25 s
const OPEN_TIMEOUT = 15_000 // a network that drops all packets leaves a socket connecting for minutes
const PONG_TIMEOUT = 5_000 // when the connection is in doubt
const MIN_BACKOFF = 1_000
const MAX_BACKOFF = 30_000
const RESTART_SPREAD = 5_000 // clients of a server that restarts come back within this time
const STABLE_AFTER = 60_000 // a connection this old resets the backoff
const QUICK_FAILURE = 5_000 // a shorter connection counts as a failed WebSocket
const MAX_QUICK_FAILURES = 3 // in a row, before the fallback is tried
const FALLBACK_TIME = 300_000 // then a WebSocket is tried again
// A token that lasts less than a minute is announced as expiring at once, again and again.
const MIN_RENEWAL_INTERVAL = 10_000
const MAX_RETRY_AFTER = 3600 // seconds; a longer wait is a mistake, and timers overflow

// The last error of an event stream corresponds to a WebSocket's close code.
/** @type {Record<string, number>} */
const CLOSE_CODES = { restarting: 1012, token_expired: 4101, signed_out_elsewhere: 4101, signed_out: 4401 }

/**
 * Keeps a connection open: authenticates it, watches it, and reconnects. Subclasses handle the messages.
 *
 * Each attempt, and each wait for the next one, has its own AbortController, `#controller`. Aborting it ends everything
 * that belongs to the attempt, and late events find the signal aborted. Callbacks may therefore close and connect at any
 * time.
 */
export class LiveConnection {
  /** @type {AbortController | null} null when closed */
  #controller = null
  /** @type {'websocket' | 'events'} */
  #carrier = 'websocket'
  /** @type {WebSocket | null} of this attempt */
  #socket = null
  /** @type {ErrorMessage | null} the last one of this attempt */
  #error = null
  /** @type {(() => void) | null} ends the wait for the next attempt */
  #skipWait = null
  /** @type {Promise<string | null | undefined> | null} a request for a token that is in progress */
  #tokenRequest = null
  #open = false // authenticated, and a message has arrived
  #startedAt = 0
  #lastMessageAt = 0
  #renewedAt = -Infinity
  #failures = 0 // since the last stable connection
  #quickFailures = 0 // failed WebSockets in a row
  #fallbackUntil = 0 // no WebSocket is tried before this time

  /** @param {Token} authToken @param {Options} options */
  constructor(authToken, options) {
    this.authToken = authToken
    this.options = options
    this.base = new URL(options.url ?? '/', globalThis.location?.href).href.replace(/\/$/, '')
  }

  // ---- public

  /** Connect, and stay connected until `close`. Does nothing while connected. */
  connect() {
    if (this.#controller) return
    globalThis.addEventListener?.('online', this.#onOnline)
    globalThis.document?.addEventListener('visibilitychange', this.#onVisibilityChange)
    this.#failures = this.#quickFailures = this.#fallbackUntil = 0
    this.#attempt()
  }

  close() {
    this.#stop(1000)
  }

  // ---- for subclasses

  /** @returns {string} the WebSocket's path */
  get path() {
    throw new Error('not implemented')
  }

  /** @param {Message} _message */
  handleMessage(_message) {}

  /** The WebSocket is open and the token has been sent; the server has not answered yet. */
  handleOpen() {}

  /**
   * Receive messages over HTTP: pass each to `deliver` until the signal is aborted.
   * @param {string} _token @param {AbortSignal} _signal @param {(message: Message | null) => void} _deliver
   * @returns {Promise<void>}
   */
  async fallback(_token, _signal, _deliver) {}

  /** Send a message; does nothing while no WebSocket is open. @param {object} message */
  send(message) {
    if (this.#socket?.readyState === 1) this.#socket.send(JSON.stringify(message))
  }

  /** Reconnect after a missed message: each new connection begins with the current state. */
  reconnect() {
    if (this.#controller) this.#scheduleAttempt(0, { atOnce: true })
  }

  /**
   * Call the API.
   * @param {string} path @param {string} token @param {AbortSignal} signal
   * @returns {Promise<Response>} one with status 2xx or 304
   * @throws an Error with `closeCode`, the WebSocket close code of the same meaning, and `retryAfter` in seconds
   */
  async get(path, token, signal) {
    const request = this.options.fetch ?? fetch
    const headers = { Authorization: `Bearer ${token}` }
    const response = await request(this.base + path, { headers, signal, cache: 'no-store' })
    if (response.ok || response.status === 304) return response
    // A token that has worked before is expired; any other is wrong.
    const closeCode = { 401: this.#open ? 4101 : 4401, 404: 4403, 429: 4129 }[response.status]
    const retryAfter = Number(response.headers.get('Retry-After'))
    throw Object.assign(new Error(`HTTP ${response.status}`), { closeCode, retryAfter })
  }

  /**
   * Run a callback. Its errors are reported to the console and do not disturb the connection.
   * @param {((...args: any[]) => unknown) | undefined} callback @param {...unknown} args
   */
  async invoke(callback, ...args) {
    try {
      await callback?.(...args)
    } catch (error) {
      const report = globalThis.reportError ?? console.error
      report(error)
    }
  }

  // ---- one attempt

  async #attempt() {
    const signal = this.#newController()
    this.#setStatus('connecting', {})
    if (signal.aborted) return
    let token
    try {
      token = await this.#fetchToken()
    } catch {
      if (!signal.aborted) this.#scheduleAttempt(0) // the token cannot be fetched at the moment
      return
    }
    if (signal.aborted) return
    if (!token) return this.#stop(4401)
    this.#startedAt = this.#lastMessageAt = Date.now()
    // A laptop that sleeps stops its timers, so the clock is checked often.
    every(PONG_TIMEOUT, signal, () => this.#isSilentFor(this.#open ? SILENCE_LIMIT : OPEN_TIMEOUT) && this.#onEnd(0))
    this.#carrier = Date.now() < this.#fallbackUntil ? 'events' : 'websocket'
    if (this.#carrier === 'events') this.#useFallback(token, signal)
    else this.#useWebSocket(token, signal)
  }

  /** One request at a time: it may spend a refresh token, and spending one twice ends the session. */
  #fetchToken() {
    const request = async () => (typeof this.authToken === 'function' ? this.authToken() : this.authToken)
    return (this.#tokenRequest ??= request().finally(() => (this.#tokenRequest = null)))
  }

  /** End the current attempt or wait, and begin another. */
  #newController() {
    this.#abortAttempt()
    this.#controller = new AbortController()
    return this.#controller.signal
  }

  #abortAttempt() {
    this.#controller?.abort()
    this.#controller = this.#socket = this.#error = this.#skipWait = null
    this.#open = false
    this.#renewedAt = -Infinity
  }

  /** @param {string} token @param {AbortSignal} signal */
  #useWebSocket(token, signal) {
    try {
      const Socket = this.options.WebSocket ?? WebSocket
      this.#socket = new Socket(this.base.replace(/^http/, 'ws') + this.path)
    } catch {
      return this.#onEnd(0) // the runtime has no WebSocket, or a policy forbids it
    }
    const socket = this.#socket
    let opened = false
    signal.addEventListener('abort', () => socket.close(1000))
    // After a failed handshake, Node 20 emits only `error`; browsers emit `error` and `close`.
    socket.onerror = () => signal.aborted || opened || this.#onEnd(1006)
    socket.onopen = () => {
      if (signal.aborted) return
      opened = true
      this.#authenticate(token)
      this.handleOpen()
      every(PING_INTERVAL, signal, () => this.#ping())
    }
    socket.onmessage = ({ data }) => signal.aborted || this.#onMessage(parse(data))
    socket.onclose = ({ code }) => signal.aborted || this.#onEnd(code)
  }

  /** @param {string} token @param {AbortSignal} signal */
  async #useFallback(token, signal) {
    after(this.#fallbackUntil - Date.now(), signal, () => {
      this.#fallbackUntil = 0
      this.reconnect()
    })
    try {
      await this.fallback(token, signal, (message) => signal.aborted || this.#onMessage(message))
      if (!signal.aborted) this.#onEnd(CLOSE_CODES[this.#error?.code ?? ''] ?? 0)
    } catch (error) {
      if (signal.aborted) return
      const { closeCode = 0, retryAfter } = /** @type {{closeCode?: number, retryAfter?: number}} */ (error)
      this.#onEnd(closeCode, retryAfter)
    }
  }

  /** @param {Message | null} message null when the data was not valid JSON */
  #onMessage(message) {
    const run = this.#controller
    this.#lastMessageAt = Date.now()
    if (message?.type === 'error') {
      this.#error = message
      this.invoke(this.options.onError, message)
    } else if (message && !this.#open) {
      this.#open = true
      this.#setStatus('connected', { carrier: this.#carrier })
    }
    if (!message || run !== this.#controller) return
    if (message.type === 'token_expiring') this.#renewToken()
    else this.handleMessage(message)
  }

  /** Without a fresh token, the connection ends when the old one expires, and reconnects. */
  async #renewToken() {
    if (!this.#socket || typeof this.authToken !== 'function' || Date.now() - this.#renewedAt < MIN_RENEWAL_INTERVAL)
      return
    this.#renewedAt = Date.now()
    const socket = this.#socket
    const token = await this.#fetchToken().catch(() => null)
    if (token && socket === this.#socket) this.#authenticate(token)
  }

  /** @param {string} token */
  #authenticate(token) {
    this.send({ type: 'authenticate', token: `Bearer ${token}` })
  }

  // ---- reconnecting

  /**
   * An attempt is over. The client stops after 1000 and after close codes from 4400, and otherwise reconnects.
   * @param {number} code 0 when unknown @param {number} [retryAfter] seconds
   */
  #onEnd(code, retryAfter = this.#error?.retry_after) {
    if (code === 1000 || code >= 4400) return this.#stop(code)
    const explained = code >= 4000 || code === 1009 || code === 1012
    if (this.#carrier === 'events') {
      if (!this.#open) this.#fallbackUntil = 0 // neither works, so alternate
    } else if (explained || (this.#open && Date.now() - this.#startedAt > QUICK_FAILURE)) this.#quickFailures = 0
    else if (++this.#quickFailures >= MAX_QUICK_FAILURES) {
      this.#fallbackUntil = Date.now() + FALLBACK_TIME
      this.#quickFailures = MAX_QUICK_FAILURES - 1 // after the fallback, one failure is enough
    }
    this.#scheduleAttempt(code, { atOnce: code === 4101, retryAfter })
  }

  /**
   * @param {number} code
   * @param {{atOnce?: boolean, retryAfter?: number}} [how] `atOnce`: without a wait, unless the last attempt failed
   */
  #scheduleAttempt(code, { atOnce = false, retryAfter = 0 } = {}) {
    if (this.#open && Date.now() - this.#startedAt >= STABLE_AFTER) this.#failures = 0
    const isGiven = retryAfter > 0
    const wait = isGiven
      ? 1000 * Math.min(retryAfter, MAX_RETRY_AFTER) + MIN_BACKOFF * Math.random()
      : this.#backoff(code, atOnce)
    const signal = this.#newController()
    const next = () => this.#attempt()
    if (!isGiven) this.#skipWait = next
    after(wait, signal, next)
    this.#setStatus('waiting', { code, retryIn: wait / 1000 })
  }

  /** @param {number} code @param {boolean} atOnce @returns {number} milliseconds */
  #backoff(code, atOnce) {
    if (code === 1012) return RESTART_SPREAD * Math.random()
    const failures = this.#failures++
    if (atOnce && failures === 0) return 0
    // Full jitter spreads the clients that reconnect after a network failure over the whole wait.
    return Math.min(MAX_BACKOFF, MIN_BACKOFF * 2 ** failures) * Math.random()
  }

  /** @param {number} code */
  #stop(code) {
    if (!this.#controller) return
    this.#abortAttempt()
    globalThis.removeEventListener?.('online', this.#onOnline)
    globalThis.document?.removeEventListener('visibilitychange', this.#onVisibilityChange)
    this.#setStatus('closed', { code })
  }

  // ---- liveness

  /** @param {number} limit milliseconds */
  #isSilentFor(limit) {
    return Math.abs(Date.now() - this.#lastMessageAt) > limit // the clock may be set back
  }

  #ping() {
    this.send({ type: 'ping', timestamp: Date.now() / 1000 })
  }

  /** The network is back; it may be a different one. */
  #onOnline = () => {
    this.#quickFailures = this.#fallbackUntil = 0
    if (this.#open && this.#carrier === 'events') this.reconnect()
    else this.#checkNow()
  }

  #onVisibilityChange = () => {
    if (globalThis.document.visibilityState === 'visible') this.#checkNow()
  }

  /** End a wait at once, and check that an open WebSocket still answers. */
  #checkNow() {
    if (this.#skipWait) return this.#skipWait()
    if (!this.#controller || !this.#open || !this.#socket) return
    const pingedAt = Date.now()
    this.#ping()
    after(PONG_TIMEOUT, this.#controller.signal, () => this.#lastMessageAt < pingedAt && this.#onEnd(0))
  }

  /** @param {Status} status @param {StatusDetail} detail */
  #setStatus(status, detail) {
    this.invoke(this.options.onStatus, status, detail)
  }
}

/** The newest revisions that were reported for one dream, so that no message is reported twice or out of order. */
export class DreamState {
  #update = -1
  /** @type {Map<number, number>} */
  #images = new Map()

  /** The revision of the last `image_update`; 0 when there was none. */
  get updateRevision() {
    return Math.max(0, this.#update)
  }

  /** The newest revision of any message. */
  get revision() {
    return Math.max(this.updateRevision, ...this.#images.values())
  }

  /**
   * Record a message. The last picture's `image_progress` and the `image_update` that follows it have the same revision,
   * so pictures and the dream are compared separately. An `image_update` includes the state of all pictures.
   * @param {ImageUpdate | ImageProgress} message
   * @returns {boolean} false when it is not newer than the messages before it
   */
  accept(message) {
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

/** Client for one dream; see the top of this file, and docs/api.md. */
export class DreamImageWebSocketClient extends LiveConnection {
  #state = new DreamState()

  /**
   * @param {string} dreamId
   * @param {Token} authToken an access token, or a function that returns a fresh one, called before each connection
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
  handleMessage(message) {
    if (message.type === 'connection_established') this.invoke(this.options.onConnected, message)
    else if (message.type === 'image_update') {
      if (this.#state.accept(message)) this.invoke(this.handleImageUpdate, message)
    } else if (message.type === 'image_progress') {
      if (this.#state.accept(message)) this.invoke(this.options.onProgress, message)
    } else if (message.type === 'heartbeat') {
      if (message.revision > this.#state.revision) this.reconnect()
    } else if (message.type === 'dream_deleted') {
      this.invoke(this.options.onDeleted, message)
      this.close()
    }
  }

  /**
   * Receive the same messages as server-sent events.
   * @param {string} token @param {AbortSignal} signal @param {(message: Message | null) => void} deliver
   */
  async fallback(token, signal, deliver) {
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
          data += line.slice(5) // the server sends one line of JSON
        else if (line === '' && data) {
          deliver(parse(data))
          data = ''
        }
      }
    }
  }
}

/** @param {unknown} data @returns {Message | null} null when it is not valid JSON */
function parse(data) {
  try {
    return JSON.parse(String(data))
  } catch {
    return null
  }
}

/**
 * A timeout that an abort clears.
 * @param {number} milliseconds @param {AbortSignal} signal @param {() => void} work
 */
export function after(milliseconds, signal, work) {
  if (signal.aborted) return
  const stop = () => clearTimeout(timer)
  const timer = setTimeout(() => {
    signal.removeEventListener('abort', stop)
    work()
  }, milliseconds)
  signal.addEventListener('abort', stop)
}

/**
 * An interval that an abort clears.
 * @param {number} milliseconds @param {AbortSignal} signal @param {() => void} work
 */
function every(milliseconds, signal, work) {
  const timer = setInterval(work, milliseconds)
  signal.addEventListener('abort', () => clearInterval(timer))
}
