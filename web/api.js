// @ts-check
// Calls of the public API, signed in: JSON, and uploads that tell how far they are.

import { Refused, Unreachable, session } from './session.js'
import { language } from './words.js'

// Milliseconds after which a connection is taken for dead: on a network that swallows everything, browsers themselves wait
// for a quarter of an hour.
const SILENCE = 60_000 // until an answer begins
const STALLED = 180_000 // of an upload, without a byte taken: a slow network first drains what it has been given

/**
 * @param {string} method @param {string} path
 * @param {{body?: unknown, signal?: AbortSignal}} [options]
 * @returns {Promise<any>} the answer's JSON, null when it has none
 * @throws {Refused | Unreachable}
 */
export async function call(method, path, { body, signal } = {}) {
  const response = await withToken(async (token) => {
    /** @type {Record<string, string>} */
    const headers = { Authorization: `Bearer ${token}`, 'Accept-Language': language }
    if (body !== undefined) headers['Content-Type'] = 'application/json'
    const sent = body === undefined ? undefined : JSON.stringify(body)
    const silence = new AbortController()
    const timer = setTimeout(() => silence.abort(new Unreachable()), SILENCE)
    const ended = signal ? AbortSignal.any([signal, silence.signal]) : silence.signal
    const answer = await fetch(path, { method, headers, body: sent, signal: ended })
      .catch((error) => {
        throw error.name === 'AbortError' ? error : new Unreachable()
      })
      .finally(() => clearTimeout(timer))
    const text = await answer.text().catch(() => {
      throw new Unreachable()
    })
    return { status: answer.status, text, retryAfter: answer.headers.get('Retry-After') }
  })
  return settled(response)
}

/**
 * Send a form; `onProgress` is told how many bytes have gone out.
 * @param {string} path @param {FormData} form
 * @param {{key: string, onProgress: (progress: import('./types').Progress) => void, signal: AbortSignal}} options
 *   `key` is the Idempotency-Key
 * @returns {Promise<any>}
 * @throws {Refused | Unreachable}
 */
export async function upload(path, form, { key, onProgress, signal }) {
  const response = await withToken(
    (token) =>
      new Promise((resolve, reject) => {
        const request = new XMLHttpRequest() // fetch does not tell how much has gone out
        request.open('POST', path)
        request.setRequestHeader('Authorization', `Bearer ${token}`)
        request.setRequestHeader('Accept-Language', language)
        request.setRequestHeader('Idempotency-Key', key)
        /** @type {ReturnType<typeof setTimeout> | undefined} */
        let timer
        const alive = () => {
          clearTimeout(timer)
          timer = setTimeout(() => (reject(new Unreachable()), request.abort()), STALLED)
        }
        request.onloadend = () => clearTimeout(timer)
        request.upload.onprogress = ({ loaded, total }) => {
          alive()
          onProgress({ sent: loaded, total })
        }
        const answer = () => ({
          status: request.status,
          text: request.responseText,
          retryAfter: request.getResponseHeader('Retry-After'),
        })
        request.onload = () => resolve(answer())
        request.onerror = () => reject(new Unreachable())
        request.onabort = () => reject(signal.reason)
        signal.addEventListener('abort', () => request.abort())
        if (signal.aborted) reject(signal.reason)
        else {
          alive()
          request.send(form)
        }
      }),
  )
  return settled(response)
}

/** A last call of a page that is being closed. @param {string} path */
export async function deleteAtTheEnd(path) {
  const token = await session.token()
  await fetch(path, { method: 'DELETE', keepalive: true, headers: { Authorization: `Bearer ${token}` } })
}

/**
 * @typedef {{status: number, text: string, retryAfter: string | null}} Answer
 * @param {(token: string) => Promise<Answer>} ask
 */
async function withToken(ask) {
  const answer = await ask(await session.token())
  return answer.status === 401 ? ask(await session.token({ fresh: true })) : answer
}

/** @param {Answer} answer */
function settled({ status, text, retryAfter }) {
  /** @type {any} */
  let body = null
  try {
    body = text ? JSON.parse(text) : null
  } catch {
    // a proxy's own page
  }
  if (status >= 200 && status < 300) return body
  if ([502, 503, 504].includes(status)) throw new Unreachable(Number(retryAfter))
  throw new Refused(status, body, retryAfter)
}
