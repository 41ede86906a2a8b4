// @ts-check
// The signed-in user and the tokens. The access token exists only in this module; the refresh token is in an HttpOnly
// cookie.

import { withLock } from './locks.js'
import { saveSetting, setting } from './settings.js'
import * as store from './store.js'
import { language } from './words.js'

/** @typedef {import('./types').User} User */

const ANSWER_TIMEOUT = 5_000 // milliseconds for the response to a page that was reloaded meanwhile
const REFRESH_EARLY = 75 // seconds before a token expires; WebSockets ask for a new one 60 s before

/** The server could not be reached, or is temporarily unavailable. */
export class Unreachable extends Error {
  /** @param {number} [retryAfter] seconds */
  constructor(retryAfter) {
    super('the server cannot be reached')
    this.retryAfter = retryAfter
  }
}

/** The server answered with an error. */
export class HttpError extends Error {
  /** @param {number} status @param {any} body an RFC 9457 problem, or null @param {string | null} retryAfter seconds */
  constructor(status, body, retryAfter = null) {
    super(body?.detail ?? `HTTP ${status}`)
    this.status = status
    /** @type {{field: string, message: string}[]} */
    this.errors = body?.errors ?? []
    this.retryAfter = Number(retryAfter) || 0
  }
}

/** Emits `user` (a different user signed in), `in` (the same user signed in again), `leaving` and `out`. */
class Session extends EventTarget {
  /** @type {User | null} */
  user = null
  /** Whether the server has confirmed `user`; false while the page starts offline. */
  confirmed = false
  #access = ''
  #expiresAt = 0
  /** @type {Promise<string> | null} */
  #refreshing = null
  #tabs = new BroadcastChannel('dreamlog session')

  constructor() {
    super()
    this.#tabs.onmessage = ({ data }) => {
      if (data === 'out' && this.user) this.#clear()
      // Another tab signed in another user, whose cookie it is now.
      else if (data !== 'out' && data !== this.user?.id) location.reload()
    }
  }

  /** Resume the session of the cookie, if there is one. */
  async start() {
    const known = await store.getLastUser()
    if (!known) return // nobody has signed in with this browser, so there is no cookie
    try {
      await this.token()
    } catch (error) {
      if (!(error instanceof Unreachable)) return
      this.user = known // saved dreams are available offline
    }
  }

  /**
   * An access token that does not expire soon.
   * @param {{fresh?: boolean}} [options] fresh: the server has rejected the current one
   * @returns {Promise<string>}
   */
  async token({ fresh = false } = {}) {
    if (!fresh && this.#access && Date.now() < this.#expiresAt) return this.#access
    this.#refreshing ??= this.#refresh().finally(() => (this.#refreshing = null))
    return this.#refreshing
  }

  /**
   * Get a fresh token after the server has rejected the current one. Another tab may be signing out; the wait leaves
   * time for its message.
   */
  async renew() {
    await new Promise((resolve) => setTimeout(resolve, 1000))
    if (this.user) await this.token({ fresh: true })
    if (!this.user) throw new HttpError(401, null)
  }

  /** @param {'login' | 'register'} endpoint @param {string} username @param {string} password */
  async signIn(endpoint, username, password) {
    const answer = await post(`/api/auth/${endpoint}`, { username, password })
    this.#useToken(answer)
    await this.#setUser(answer.user)
    this.#tabs.postMessage(answer.user.id)
  }

  async signOut() {
    this.dispatchEvent(new Event('leaving')) // stop requests that the server would reject
    const token = await this.token().catch(() => '')
    if (token) {
      await fetch('/api/auth/logout', { method: 'POST', headers: { Authorization: `Bearer ${token}` } }).catch(() => {})
    }
    this.#tabs.postMessage('out')
    await this.#clear()
  }

  /** Sign out of an account that no longer exists. */
  async accountDeleted() {
    this.#tabs.postMessage('out')
    await this.#clear()
  }

  async #clear() {
    const user = this.user ?? (await store.getLastUser())
    this.#access = ''
    this.user = null
    this.confirmed = false
    await store.saveLastUser(null)
    // Delete the saved dreams; drafts and unsent entries wait until their user signs in again.
    if (user) await store.deleteDreams(user.id)
    if ('caches' in globalThis) await caches.delete('pictures')
    this.dispatchEvent(new Event('out'))
  }

  async #refresh() {
    // A refresh token is valid once, and all tabs share one cookie.
    const answer = await withLock('dreamlog refresh', refreshTokens).catch(async (error) => {
      if (error instanceof HttpError) await this.#clear()
      throw error
    })
    this.#useToken(answer)
    const id = JSON.parse(atob(this.#access.split('.')[1].replace(/-/g, '+').replace(/_/g, '/'))).sub
    if (!this.confirmed || id !== this.user?.id) {
      const known = await store.getLastUser()
      await this.#setUser(known?.id === id ? known : await this.#fetchUser())
    }
    return this.#access
  }

  /** @param {{access: string, expires_in: number}} answer */
  #useToken(answer) {
    this.#access = answer.access
    this.#expiresAt = Date.now() + 1000 * (answer.expires_in - Math.min(REFRESH_EARLY, answer.expires_in / 2))
  }

  /** @param {User} user */
  async #setUser(user) {
    const before = this.user?.id
    this.user = user
    this.confirmed = true
    await store.saveLastUser(user)
    this.dispatchEvent(new Event(before === user.id ? 'in' : 'user'))
  }

  async #fetchUser() {
    const response = await fetch('/api/me', { headers: { Authorization: `Bearer ${this.#access}` } }).catch(() => null)
    if (!response?.ok) throw new Unreachable()
    return response.json()
  }
}

/**
 * Refresh the tokens. If the page was reloaded during a refresh, the response with the new cookie is still on its way:
 * wait for it instead of sending the old cookie again.
 */
async function refreshTokens() {
  const since = Math.abs(Date.now() - Number(setting('refreshing')))
  if (since < ANSWER_TIMEOUT) await new Promise((resolve) => setTimeout(resolve, ANSWER_TIMEOUT - since))
  saveSetting('refreshing', String(Date.now()))
  try {
    const answer = await post('/api/auth/refresh')
    saveSetting('refreshing', '')
    return answer
  } catch (error) {
    // While a page unloads, its requests fail with other errors.
    if (error instanceof HttpError) saveSetting('refreshing', '')
    throw error
  }
}

/** @param {string} path @param {object} [body] */
async function post(path, body) {
  // keepalive: a reload must not lose the new cookie.
  /** @type {Record<string, string>} */
  const headers = { 'Accept-Language': language }
  if (body) headers['Content-Type'] = 'application/json'
  /** @type {RequestInit} */
  const request = { method: 'POST', credentials: 'same-origin', keepalive: true, headers, body: JSON.stringify(body) }
  const response = await fetch(path, request).catch(() => {
    throw new Unreachable()
  })
  if (response.ok) return response.json()
  if (response.status >= 500) throw new Unreachable(Number(response.headers.get('Retry-After')))
  throw new HttpError(response.status, await response.json().catch(() => null), response.headers.get('Retry-After'))
}

export const session = new Session()
