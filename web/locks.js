// @ts-check
// Locks between tabs. The browser's Web Locks need https or localhost. Over plain http, as from a phone in the local
// network, a lease in IndexedDB replaces them.

import { lease, release, releaseNow } from './store.js'

const LEASE_SECONDS = 4 // after which the lease of a closed tab expires; a reloaded page waits this long
const tab = randomKey()

/** A random key of 32 hexadecimal digits. */
export function randomKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('')
}

/**
 * Wait for a lock, and run `work` while holding it.
 * @template T
 * @param {string} name @param {() => Promise<T>} work
 * @returns {Promise<T>}
 */
export async function withLock(name, work) {
  if (navigator.locks) return navigator.locks.request(name, work)
  const owner = `${tab} ${randomKey()}`
  while (!(await lease(name, owner, LEASE_SECONDS))) await new Promise((resolve) => setTimeout(resolve, 100))
  const renewal = setInterval(() => lease(name, owner, LEASE_SECONDS), (1000 * LEASE_SECONDS) / 4)
  try {
    return await work()
  } finally {
    clearInterval(renewal)
    await release(name, owner)
  }
}

/**
 * Take a lock if it is free. The tab holds it until it closes or calls the returned function; null when it is not free.
 * @param {string} name
 * @returns {Promise<(() => void) | null>}
 */
export async function tryLock(name) {
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
  const owner = `${tab} ${randomKey()}`
  if (!(await lease(name, owner, LEASE_SECONDS))) return null
  const renewal = setInterval(() => lease(name, owner, LEASE_SECONDS), (1000 * LEASE_SECONDS) / 4)
  // A reloaded tab must find the lock free.
  const closing = () => releaseNow(name)
  addEventListener('pagehide', closing)
  return () => {
    clearInterval(renewal)
    removeEventListener('pagehide', closing)
    release(name, owner)
  }
}
