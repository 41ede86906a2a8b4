// Helpers for the tests of the client library. `SCRIPTED_URL` is the server of scripted.py, `SERVER_URL` is Dreamlog's,
// and `PHOTO` is the path of a picture.

import assert from 'node:assert/strict'
import { getEventListeners } from 'node:events'
import { readFile } from 'node:fs/promises'
import { DreamImageWebSocketClient } from '../../web/client/dreamlog.js'
import { ManyDreamsWebSocketClient } from '../../web/client/many_dreams.js'

const WITHIN = 30_000 * Number(process.env.TEST_TIME_FACTOR) // milliseconds for anything to happen; see tests/pace.py
const { setTimeout: realTimeout, setImmediate: realImmediate } = globalThis // also while a test has its own time
let scripts = 0
let people = 0

/** Call `look`, which may be async, until its result is true, and return the result. */
export async function until(look, what) {
  const deadline = performance.now() + WITHIN
  for (;;) {
    const answer = await look()
    if (answer) return answer
    if (performance.now() > deadline) throw new Error(`not in time: ${what}`)
    await new Promise((resolve) => realTimeout(resolve, 5))
  }
}

/** A server that follows this script for each connection; see scripted.py. */
export async function script(turns) {
  const url = `${process.env.SCRIPTED_URL}/${process.pid}-${++scripts}`
  await fetch(url, { method: 'PUT', body: JSON.stringify(turns) })
  const seen = async (kind) => (await (await fetch(url)).json()).seen.filter((each) => !kind || each.kind === kind)
  return { url, seen }
}

export const HELLO = { send: { type: 'connection_established', dream_id: 'd', message: '…' } }
export const AUTHENTICATED = { wait: 'authenticate' }

export function update(revision, more = {}) {
  return { type: 'image_update', dream_id: 'd', status: 'completed', images: [], timestamp: 1, revision, ...more }
}

export function progress(id, revision, more = {}) {
  return { type: 'image_progress', dream_id: 'd', image: { id }, done: 1, total: 2, revision, timestamp: 1, ...more }
}

/** A connection that works until its next step. */
export function works(...steps) {
  return [AUTHENTICATED, HELLO, { send: update(1) }, ...steps]
}

function recorded(options) {
  const received = { updates: [], progress: [], connected: [], deleted: [], errors: [], statuses: [] }
  const all = {
    onConnected: (message) => received.connected.push(message),
    onProgress: (message) => received.progress.push(message),
    onDeleted: (message) => received.deleted.push(message),
    onError: (message) => received.errors.push(message),
    onStatus: (status, detail) => received.statuses.push({ status, ...detail }),
    ...options,
  }
  return { received, all, onUpdate: (message) => received.updates.push(message) }
}

/** A client whose callbacks are recorded; it closes with the test. */
export function one(t, url, { token = 'token', dreamId = 'd', ...options } = {}) {
  const { received, all, onUpdate } = recorded(options)
  return kept(t, new DreamImageWebSocketClient(dreamId, token, onUpdate, { url, ...all }), received)
}

export function many(t, url, { token = 'token', ...options } = {}) {
  const { received, all, onUpdate } = recorded(options)
  return kept(t, new ManyDreamsWebSocketClient(token, onUpdate, { url, ...all }), received)
}

function kept(t, client, received) {
  t.after(() => client.close())
  const of = (status) => received.statuses.filter((each) => each.status === status)
  const times = async (count, status) => {
    await until(() => of(status).length >= count, `${count} times ${status}`).catch(({ message }) => {
      throw new Error(`${message}: ${JSON.stringify(received.statuses)}`)
    })
    return of(status).at(-1)
  }
  return { client, received, of, times }
}

/** A new account; `token` fetches a fresh access token. */
export async function person() {
  const call = async (method, path, body, headers = {}) => {
    const answer = await fetch(process.env.SERVER_URL + path, { method, body, headers })
    assert.ok(answer.ok, `${method} ${path}: ${answer.status}`)
    return answer.status === 204 ? null : answer.json()
  }
  const account = JSON.stringify({ username: `ada${++people}`, password: 'correct horse' })
  let tokens = await call('POST', '/api/auth/register', account)
  return {
    refreshed: 0,
    get access() {
      return tokens.access
    },
    async token() {
      // Two requests at a time would spend one refresh token twice, which ends the session.
      this.refreshing ??= call('POST', '/api/auth/refresh', JSON.stringify({ refresh: tokens.refresh }))
      tokens = await this.refreshing.finally(() => (this.refreshing = null))
      this.refreshed++
      return tokens.access
    },
    call: (method, path, body) => call(method, path, body, { Authorization: `Bearer ${tokens.access}` }),
    write(title) {
      return this.call('POST', '/api/dreams', JSON.stringify({ title }))
    },
    rename(id, title) {
      return this.call('PATCH', `/api/dreams/${id}`, JSON.stringify({ title }))
    },
    async addPicture(id) {
      const form = new FormData()
      form.append('images', new Blob([await readFile(process.env.PHOTO)]), 'photo.jpg')
      return this.call('POST', `/api/dreams/${id}/images`, form)
    },
  }
}

const waiting = new Set() // timers of the library, while a test has its own time

/**
 * Replace the clock and the timers of the library. The returned function advances them in steps of at most a second, and
 * lets the network run between the steps. Node's mock.timers would also stop the timers of fetch.
 */
export function time(t) {
  const own = { setTimeout, setInterval, clearTimeout, clearInterval }
  let now = 1_800_000_000_000
  const start =
    (set, repeats) =>
    (work, delay, ...given) => {
      const caller = new Error().stack.split('\n')[2]
      if (!/\/web\/client\/\w+\.js:/.test(caller)) return set(work, delay, ...given)
      const timer = { work, at: now + delay, every: repeats ? delay : 0 }
      waiting.add(timer)
      return timer
    }
  const clear = (timer) => waiting.delete(timer) || own.clearTimeout(timer)
  globalThis.setTimeout = start(own.setTimeout, false)
  globalThis.setInterval = start(own.setInterval, true)
  globalThis.clearTimeout = globalThis.clearInterval = clear
  t.mock.method(Date, 'now', () => now)
  t.after(() => Object.assign(globalThis, own) && waiting.clear())
  return async (seconds) => {
    const end = now + 1000 * seconds
    do {
      now = Math.min(end, now + 1000)
      // Half a millisecond, because a time in seconds and back is not exact.
      for (const timer of [...waiting].filter(({ at }) => at <= now + 0.5)) {
        if (!waiting.delete(timer)) continue // one of the others cleared it
        if (timer.every) waiting.add(Object.assign(timer, { at: now + timer.every }))
        timer.work()
      }
      await new Promise((resolve) => realImmediate(resolve))
    } while (now < end)
  }
}

/** The number of active timers, of the library and of everything else that keeps Node running. */
export function timers() {
  return waiting.size + process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length
}

/** Pass the waits after the first failures; after three, the client falls back to events. */
export async function through(times, pass, count = 3) {
  for (let failure = 1; failure <= count; failure++) await pass((await times(failure, 'waiting')).retryIn)
}

/** Simulate a runtime without WebSocket. */
export function withoutWebSockets(t) {
  const own = Object.getOwnPropertyDescriptor(globalThis, 'WebSocket')
  delete globalThis.WebSocket
  t.after(() => Object.defineProperty(globalThis, 'WebSocket', own))
}

/** Simulate the events of a browser. */
export function page(t) {
  const window = new EventTarget()
  const document = Object.assign(new EventTarget(), { visibilityState: 'hidden' })
  const names = {
    document,
    addEventListener: window.addEventListener.bind(window),
    removeEventListener: window.removeEventListener.bind(window),
  }
  Object.assign(globalThis, names)
  t.after(() => Object.keys(names).forEach((name) => delete globalThis[name]))
  return {
    online: () => window.dispatchEvent(new Event('online')),
    seen: (visibilityState) => {
      document.visibilityState = visibilityState
      document.dispatchEvent(new Event('visibilitychange'))
    },
    listeners: () =>
      getEventListeners(window, 'online').length + getEventListeners(document, 'visibilitychange').length,
  }
}
