// @ts-check
// Authenticated calls of the API: JSON requests, and uploads with progress.

import { HttpError, Unreachable, session } from './session.js'
import { language } from './words.js'

// Milliseconds. On a network that drops all packets, browsers themselves wait a quarter of an hour.
const ANSWER_TIMEOUT = 60_000 // until the response begins
const UPLOAD_STALL_TIMEOUT = 180_000 // without upload progress; a slow network first drains its buffers

/**
 * @param {string} method @param {string} path
 * @param {{body?: unknown, signal?: AbortSignal}} [options]
 * @returns {Promise<any>} the JSON of the response, or null
 * @throws {HttpError | Unreachable}
 */
export async function call(method, path, { body, signal } = {}) {
  const response = await withToken(async (token) => {
    /** @type {Record<string, string>} */
    const headers = { Authorization: `Bearer ${token}`, 'Accept-Language': language }
    if (body !== undefined) headers['Content-Type'] = 'application/json'
    const sent = body === undefined ? undefined : JSON.stringify(body)
    const timeout = new AbortController()
    const timer = setTimeout(() => timeout.abort(new Unreachable()), ANSWER_TIMEOUT)
    const aborted = signal ? AbortSignal.any([signal, timeout.signal]) : timeout.signal
    const answer = await fetch(path, { method, headers, body: sent, signal: aborted })
      .catch((error) => {
        throw error.name === 'AbortError' ? error : new Unreachable()
      })
      .finally(() => clearTimeout(timer))
    const text = await answer.text().catch(() => {
      throw new Unreachable()
    })
    return { status: answer.status, text, retryAfter: answer.headers.get('Retry-After') }
  })
  return parseAnswer(response)
}

/**
 * Send a form; `onProgress` receives the number of bytes sent.
 * @param {string} path @param {FormData} form
 * @param {{key: string, onProgress: (progress: import('./types').Progress) => void, signal: AbortSignal}} options
 *   `key` is the Idempotency-Key
 * @returns {Promise<any>}
 * @throws {HttpError | Unreachable}
 */
export async function upload(path, form, { key, onProgress, signal }) {
  const response = await withToken(
    (token) =>
      new Promise((resolve, reject) => {
        const request = new XMLHttpRequest() // fetch reports no upload progress
        request.open('POST', path)
        request.setRequestHeader('Authorization', `Bearer ${token}`)
        request.setRequestHeader('Accept-Language', language)
        request.setRequestHeader('Idempotency-Key', key)
        /** @type {ReturnType<typeof setTimeout> | undefined} */
        let timer
        const restartTimer = () => {
          clearTimeout(timer)
          timer = setTimeout(() => (reject(new Unreachable()), request.abort()), UPLOAD_STALL_TIMEOUT)
        }
        request.onloadend = () => clearTimeout(timer)
        request.upload.onprogress = ({ loaded, total }) => {
          restartTimer()
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
          restartTimer()
          request.send(form)
        }
      }),
  )
  return parseAnswer(response)
}

/** A DELETE that the browser finishes after the page has closed. @param {string} path */
export async function deleteOnUnload(path) {
  const token = await session.token()
  await fetch(path, { method: 'DELETE', keepalive: true, headers: { Authorization: `Bearer ${token}` } })
}

/**
 * @typedef {{status: number, text: string, retryAfter: string | null}} Answer
 * @param {(token: string) => Promise<Answer>} request
 */
async function withToken(request) {
  const answer = await request(await session.token())
  return answer.status === 401 ? request(await session.token({ fresh: true })) : answer
}

/** @param {Answer} answer */
function parseAnswer({ status, text, retryAfter }) {
  /** @type {any} */
  let body = null
  try {
    body = text ? JSON.parse(text) : null
  } catch {
    // an error page of a proxy
  }
  if (status >= 200 && status < 300) return body
  if ([502, 503, 504].includes(status)) throw new Unreachable(Number(retryAfter))
  throw new HttpError(status, body, retryAfter)
}
