// @ts-check
// What the server accepts. Its last answer stays on this device, so that the page also knows the limits offline.

import { saveSetting, setting } from './settings.js'

/** @typedef {import('./client/protocol').Server} Server */

/** @type {Partial<Server>} empty until the server has answered on this device */
let known = stored()

/** @type {Promise<void> | undefined} */
let loading

/** A limit that is not known is not checked here; the server checks it in any case. @returns {Partial<Server['limits']>} */
export const limits = () => known.limits ?? {}

export const registration = () => known.registration

/** Asks the server, once for each load of the page. Never rejects: without an answer, the last one holds. */
export function loadServer() {
  loading ??= ask()
  return loading
}

async function ask() {
  try {
    const answer = await fetch('/api/server')
    if (!answer.ok) return
    known = await answer.json()
    saveSetting('server', JSON.stringify(known))
  } catch {
    // the server is out of reach
  }
}

/** @returns {Partial<Server>} */
function stored() {
  try {
    return JSON.parse(setting('server') ?? '{}')
  } catch {
    return {} // not written by this page
  }
}
