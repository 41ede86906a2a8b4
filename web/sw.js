// @ts-check
// The page's shell and the pictures that were seen, for nights without a network. What people wrote is not its
// business: that is in the page's database.

const VERSION = '{version}'
const FILES = ['{files}']
const SHELL = `shell ${VERSION}`
const PICTURES = 'pictures'
const MOST = 400 // pictures kept; those that were kept first go first

const worker = /** @type {ServiceWorkerGlobalScope} */ (/** @type {unknown} */ (self)) // what TypeScript cannot know

worker.addEventListener('install', (event) => {
  event.waitUntil(fill().then(() => worker.skipWaiting()))
})

worker.addEventListener('activate', (event) => {
  event.waitUntil(clean().then(() => worker.clients.claim()))
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

async function fill() {
  const cache = await caches.open(SHELL)
  await cache.addAll([new Request('/', { cache: 'reload' }), ...FILES.map((name) => `/web/${VERSION}/${name}`)])
}

/** The shells of other versions go; a page that still runs one has all its modules already. */
async function clean() {
  for (const name of await caches.keys()) if (name.startsWith('shell ') && name !== SHELL) await caches.delete(name)
}

/**
 * The page itself comes from the server while it answers, so that a new version is seen at once.
 * @param {Request} request @param {string} pathname
 */
async function shell(request, pathname) {
  const cache = await caches.open(SHELL)
  if (pathname !== '/') return (await cache.match(request)) ?? fetch(request)
  try {
    const answer = await fetch(request, { signal: AbortSignal.timeout(4000) })
    if (answer.ok) return answer
  } catch {
    // out of reach, or very slow
  }
  return (await cache.match('/')) ?? Response.error()
}

/** @type {Set<string>} storages that let no page read their pictures, only show them */
const closed = new Set()

/** What lies under a path never changes; only the signature behind it does. @param {Request} request */
async function picture(request) {
  const { origin } = new URL(request.url)
  if (closed.has(origin)) return fetch(request)
  const key = request.url.split('?')[0]
  const cache = await caches.open(PICTURES)
  const kept = await cache.match(key)
  if (kept) return kept
  try {
    const answer = await fetch(request.url, { mode: 'cors', credentials: 'omit' })
    if (answer.status === 200) keep(cache, key, answer.clone())
    return answer
  } catch {
    const other = await otherSize(cache, key)
    if (other) return other
    if (origin !== location.origin && navigator.onLine) closed.add(origin)
    return fetch(request)
  }
}

/** The largest that was seen of the same picture. @param {Cache} cache @param {string} key */
async function otherSize(cache, key) {
  const folder = new URL('.', key).href
  const sizes = (await cache.keys()).map(({ url }) => url).filter((url) => url.startsWith(folder))
  const pixels = (/** @type {string} */ url) => parseInt(url.slice(folder.length))
  sizes.sort((a, b) => pixels(b) - pixels(a))
  return sizes[0] && cache.match(sizes[0])
}

/** @param {Cache} cache @param {string} key @param {Response} answer */
async function keep(cache, key, answer) {
  try {
    await cache.put(key, answer)
    const keys = await cache.keys()
    for (const old of keys.slice(0, Math.max(0, keys.length - MOST))) await cache.delete(old)
  } catch {
    // no room: the picture is shown, and not kept
  }
}
