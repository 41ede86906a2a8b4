// @ts-check
// One tab at a time. The browser's own locks need https or localhost; a phone in the house comes over plain http, and
// there a lease in the database that the tabs share serves.

import { lease, letGo, release } from './store.js'

const SECONDS = 4 // after which the lease of a tab that was closed is free again; a reload waits for it
const me = key()

/** A name that nobody else has, of 32 letters and digits. */
export function key() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('')
}

/**
 * Run `work` while no other tab runs work under this name; waits for its turn.
 * @template T
 * @param {string} name @param {() => Promise<T>} work
 * @returns {Promise<T>}
 */
export async function alone(name, work) {
  if (navigator.locks) return navigator.locks.request(name, work)
  const owner = `${me} ${key()}`
  while (!(await lease(name, owner, SECONDS))) await new Promise((resolve) => setTimeout(resolve, 100))
  const renewal = setInterval(() => lease(name, owner, SECONDS), (1000 * SECONDS) / 4)
  try {
    return await work()
  } finally {
    clearInterval(renewal)
    await release(name, owner)
  }
}

/**
 * Hold `name` until the function that is returned is called, or the tab ends; null when another tab holds it.
 * @param {string} name
 * @returns {Promise<(() => void) | null>}
 */
export async function hold(name) {
  if (navigator.locks) {
    return new Promise((resolve, reject) => {
      navigator.locks
        .request(name, { ifAvailable: true }, (lock) => {
          if (!lock) return resolve(null)
          return new Promise((free) => resolve(() => free(undefined)))
        })
        .catch(reject)
    })
  }
  const owner = `${me} ${key()}`
  if (!(await lease(name, owner, SECONDS))) return null
  const renewal = setInterval(() => lease(name, owner, SECONDS), (1000 * SECONDS) / 4)
  // The same tab, reloaded, is to find it free.
  const closing = () => letGo(name)
  addEventListener('pagehide', closing)
  return () => {
    clearInterval(renewal)
    removeEventListener('pagehide', closing)
    release(name, owner)
  }
}
