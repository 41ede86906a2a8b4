// @ts-check
// Caches the page and the pictures it has shown, for offline use. Drafts and dreams are in the page's database.

const VERSION = '{version}'
const FILES = ['{files}']
const SHELL = `shell ${VERSION}`
const PICTURES = 'pictures'
const MAX_PICTURES = 400 // pictures in the cache; the oldest are deleted first

const worker = /** @type {ServiceWorkerGlobalScope} */ (/** @type {unknown} */ (self)) // what TypeScript cannot know

worker.addEventListener('install', (event) => {
  event.waitUntil(cacheShell().then(() => worker.skipWaiting()))
})

worker.addEventListener('activate', (event) => {
  event.waitUntil(deleteOldShells().then(() => worker.clients.claim()))
})

worker.addEventListener('fetch', (event) => {
  const { request } = event
  const { origin, pathname } = new URL(request.url)
  if (request.method !== 'GET') return
  if (request.destination === 'image' && (origin !== location.origin || pathname.startsWith('/media/'))) {
    event.respondWith(picture(request))
  } else if (origin === location.origin && (pathname === '/' || pathname.startsWith(`/web/${VERSION}/`))) {
    event.respondWith(shell(request, pathname))
  }
})

async function cacheShell() {
  const cache = await caches.open(SHELL)
  await cache.addAll([new Request('/', { cache: 'reload' }), ...FILES.map((name) => `/web/${VERSION}/${name}`)])
}

/** Delete the caches of other versions; pages that still run them have loaded all their modules. */
async function deleteOldShells() {
  for (const name of await caches.keys()) if (name.startsWith('shell ') && name !== SHELL) await caches.delete(name)
}

/**
 * Network first for the page itself, so that a new version appears at once; cache first for its files.
 * @param {Request} request @param {string} pathname
 */
async function shell(request, pathname) {
  const cache = await caches.open(SHELL)
  if (pathname !== '/') return (await cache.match(request)) ?? fetch(request)
  try {
    const answer = await fetch(request, { signal: AbortSignal.timeout(4000) })
    if (answer.ok) return answer
  } catch {
    // offline, or very slow
  }
  return (await cache.match('/')) ?? Response.error()
}

/** @type {Set<string>} storage origins without CORS, whose pictures cannot be cached */
const withoutCors = new Set()

/** Cache by path: a file never changes, only the signature in its query does. @param {Request} request */
async function picture(request) {
  const { origin } = new URL(request.url)
  if (withoutCors.has(origin)) return fetch(request)
  const key = request.url.split('?')[0]
  const cache = await caches.open(PICTURES)
  const cached = await cache.match(key)
  if (cached) return cached
  try {
    const answer = await fetch(request.url, { mode: 'cors', credentials: 'omit' })
    if (answer.status === 200) put(cache, key, answer.clone())
    return answer
  } catch {
    const other = await otherVariant(cache, key)
    if (other) return other
    if (origin !== location.origin && navigator.onLine) withoutCors.add(origin)
    return fetch(request)
  }
}

/** The largest cached variant of the same picture. @param {Cache} cache @param {string} key */
async function otherVariant(cache, key) {
  const folder = new URL('.', key).href
  const sizes = (await cache.keys()).map(({ url }) => url).filter((url) => url.startsWith(folder))
  const pixels = (/** @type {string} */ url) => parseInt(url.slice(folder.length))
  sizes.sort((a, b) => pixels(b) - pixels(a))
  return sizes[0] && cache.match(sizes[0])
}

/** @param {Cache} cache @param {string} key @param {Response} answer */
async function put(cache, key, answer) {
  try {
    await cache.put(key, answer)
    const keys = await cache.keys()
    for (const old of keys.slice(0, Math.max(0, keys.length - MAX_PICTURES))) await cache.delete(old)
  } catch {
    // no space: the page shows the picture, and the cache does not keep it
  }
}
