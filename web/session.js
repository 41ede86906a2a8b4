// @ts-check
// Who is signed in. The access token lives in this module and nowhere else; the refresh token is in a cookie that no
// script can read.

import { alone } from './locks.js'
import { saveSetting, setting } from './settings.js'
import * as store from './store.js'
import { language } from './words.js'

/** @typedef {import('./types').User} User */

const ON_ITS_WAY = 5_000 // milliseconds in which the answer to a page that was reloaded has come
const EARLY = 75 // seconds before its end at which a token is no longer used; WebSockets ask for a new one 60 before

/** The server could not be reached, or cannot take work just now. */
export class Unreachable extends Error {
  /** @param {number} [retryAfter] seconds */
  constructor(retryAfter) {
    super('the server cannot be reached')
    this.retryAfter = retryAfter
  }
}

/** The server's answer was an error. */
export class Refused extends Error {
  /** @param {number} status @param {any} body an RFC 9457 problem, or null @param {string | null} retryAfter seconds */
  constructor(status, body, retryAfter = null) {
    super(body?.detail ?? `HTTP ${status}`)
    this.status = status
    /** @type {{field: string, message: string}[]} */
    this.errors = body?.errors ?? []
    this.retryAfter = Number(retryAfter) || 0
  }
}

/** Emits `in`, `leaving`, `out` and `user` (somebody else than before). */
class Session extends EventTarget {
  /** @type {User | null} */
  user = null
  /** Is somebody signed in here; with `user` set and this false, nobody knows yet, since the server is out of reach. */
  confirmed = false
  #access = ''
  #ends = 0
  /** @type {Promise<string> | null} */
  #refreshing = null
  #tabs = new BroadcastChannel('dreamlog session')

  constructor() {
    super()
    this.#tabs.onmessage = ({ data }) => {
      if (data === 'out' && this.user) this.#left()
      // Another tab signed somebody in: the cookie is theirs now.
      else if (data !== 'out' && data !== this.user?.id) location.reload()
    }
  }

  /** Come back with the cookie, if there is one. */
  async start() {
    const known = await store.lastUser()
    if (!known) return // a browser that nobody has used: no cookie either
    try {
      await this.token()
    } catch (error) {
      if (!(error instanceof Unreachable)) return
      this.user = known // what was read before opens without the server
    }
  }

  /**
   * A token that is good for a while yet.
   * @param {{fresh?: boolean}} [options] fresh: not the one at hand, which was refused
   * @returns {Promise<string>}
   */
  async token({ fresh = false } = {}) {
    if (!fresh && this.#access && Date.now() < this.#ends) return this.#access
    this.#refreshing ??= this.#refresh().finally(() => (this.#refreshing = null))
    return this.#refreshing
  }

  /**
   * A fresh token, after a connection was refused with the one at hand; not at once, because another tab may just be
   * signing out, and tell us so.
   */
  async again() {
    await new Promise((resolve) => setTimeout(resolve, 1000))
    if (this.user) await this.token({ fresh: true })
    if (!this.user) throw new Refused(401, null)
  }

  /** @param {'login' | 'register'} way @param {string} username @param {string} password */
  async enter(way, username, password) {
    const answer = await ask(`/api/auth/${way}`, { username, password })
    this.#granted(answer)
    await this.#entered(answer.user)
    this.#tabs.postMessage(answer.user.id)
  }

  async leave() {
    this.dispatchEvent(new Event('leaving')) // what is still asked would only be refused
    const token = await this.token().catch(() => '')
    if (token) {
      await fetch('/api/auth/logout', { method: 'POST', headers: { Authorization: `Bearer ${token}` } }).catch(() => {})
    }
    this.#tabs.postMessage('out')
    await this.#left()
  }

  /** The account is gone. */
  async left() {
    this.#tabs.postMessage('out')
    await this.#left()
  }

  async #left() {
    const user = this.user ?? (await store.lastUser())
    this.#access = ''
    this.user = null
    this.confirmed = false
    await store.keepLastUser(null)
    // What was read leaves this device; drafts and what is to be sent wait for their writer.
    if (user) await store.dropDreams(user.id)
    if ('caches' in globalThis) await caches.delete('pictures')
    this.dispatchEvent(new Event('out'))
  }

  async #refresh() {
    // Each refresh token serves once, and two tabs share one cookie.
    const answer = await alone('dreamlog refresh', refreshed).catch(async (error) => {
      if (error instanceof Refused) await this.#left()
      throw error
    })
    this.#granted(answer)
    const id = JSON.parse(atob(this.#access.split('.')[1].replace(/-/g, '+').replace(/_/g, '/'))).sub
    if (!this.confirmed || id !== this.user?.id) {
      const known = await store.lastUser()
      await this.#entered(known?.id === id ? known : await this.#me())
    }
    return this.#access
  }

  /** @param {{access: string, expires_in: number}} answer */
  #granted(answer) {
    this.#access = answer.access
    this.#ends = Date.now() + 1000 * (answer.expires_in - Math.min(EARLY, answer.expires_in / 2))
  }

  /** @param {User} user */
  async #entered(user) {
    const before = this.user?.id
    this.user = user
    this.confirmed = true
    await store.keepLastUser(user)
    this.dispatchEvent(new Event(before === user.id ? 'in' : 'user'))
  }

  async #me() {
    const response = await fetch('/api/me', { headers: { Authorization: `Bearer ${this.#access}` } }).catch(() => null)
    if (!response?.ok) throw new Unreachable()
    return response.json()
  }
}

/**
 * A page that was reloaded while it asked leaves an answer on its way, with the only cookie that still serves: the next
 * page waits for that, and does not ask with the old one.
 */
async function refreshed() {
  const since = Math.abs(Date.now() - Number(setting('refreshing')))
  if (since < ON_ITS_WAY) await new Promise((resolve) => setTimeout(resolve, ON_ITS_WAY - since))
  saveSetting('refreshing', String(Date.now()))
  try {
    const answer = await ask('/api/auth/refresh')
    saveSetting('refreshing', '')
    return answer
  } catch (error) {
    // A page that is being left takes its request for failed, too.
    if (error instanceof Refused) saveSetting('refreshing', '')
    throw error
  }
}

/** @param {string} path @param {object} [body] */
async function ask(path, body) {
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
  throw new Refused(response.status, await response.json().catch(() => null), response.headers.get('Retry-After'))
}

export const session = new Session()
