// @ts-check
// What this device keeps: drafts, what is to be sent, dreams that were read. IndexedDB, one database for all tabs.

/**
 * @typedef {import('./types').Draft} Draft
 * @typedef {import('./types').Dream} Dream
 * @typedef {import('./types').Entry} Entry
 * @typedef {import('./types').User} User
 */

const KEPT = 500 // dreams that open offline, of each user

/** @type {Promise<IDBDatabase> | null} */
let opened = null

function database() {
  opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open('dreamlog', 1)
    request.onupgradeneeded = () => {
      const db = request.result
      db.createObjectStore('drafts', { keyPath: 'key' }).createIndex('user', 'user')
      db.createObjectStore('outbox', { keyPath: 'seq', autoIncrement: true }).createIndex('user', 'user')
      const dreams = db.createObjectStore('dreams', { keyPath: ['user', 'dream.id'] })
      dreams.createIndex('night', ['user', 'night'])
      db.createObjectStore('photos', { keyPath: 'key' }).createIndex('user', 'user')
      db.createObjectStore('facts')
    }
    request.onsuccess = () => {
      // A tab with newer code may want to change the database.
      request.result.onversionchange = () => {
        request.result.close()
        opened = null
      }
      resolve(request.result)
    }
    request.onerror = () => {
      opened = null
      reject(request.error)
    }
  })
  return opened
}

/**
 * One transaction; resolves once what was written is kept.
 * @template T
 * @param {string} name @param {IDBTransactionMode} mode
 * @param {(store: IDBObjectStore, done: (value: T) => void) => void} work
 * @returns {Promise<T>}
 */
async function within(name, mode, work) {
  const db = await database()
  return new Promise((resolve, reject) => {
    // Strict: a phone whose battery dies keeps what was written.
    const transaction = db.transaction(name, mode, { durability: 'strict' })
    /** @type {any} */
    let result
    transaction.oncomplete = () => resolve(result)
    transaction.onabort = () => reject(transaction.error)
    work(transaction.objectStore(name), (value) => (result = value))
  })
}

/**
 * @template T
 * @param {string} name @param {(store: IDBObjectStore) => IDBRequest} ask
 * @returns {Promise<T>}
 */
const read = (name, ask) =>
  within(name, 'readonly', (store, done) => {
    const request = ask(store)
    request.onsuccess = () => done(request.result)
  })

/** @param {string} name @param {(store: IDBObjectStore) => IDBRequest} change */
const write = (name, change) =>
  within(name, 'readwrite', (store, done) => {
    const request = change(store)
    request.onsuccess = () => done(/** @type {any} */ (request.result))
    // A page that is being closed would not live to hear of the success after which the browser commits by itself.
    store.transaction.commit()
  })

// ---- drafts

/** @param {Draft} draft */
export const keepDraft = (draft) => write('drafts', (store) => store.put(draft))
/** @param {string} key */
export const dropDraft = (key) => write('drafts', (store) => store.delete(key))
/** @param {string} key @returns {Promise<Draft | undefined>} */
export const draft = (key) => read('drafts', (store) => store.get(key))
/** @param {string} user @returns {Promise<Draft[]>} */
export const drafts = (user) => read('drafts', (store) => store.index('user').getAll(user))

// ---- pictures of drafts and of what is to be sent

/** @typedef {{key: string, user: string, since: number, blob: Blob}} KeptPhoto `since` in Unix milliseconds */

/** @param {KeptPhoto} photo */
export const keepPhoto = (photo) => write('photos', (store) => store.add(photo))
/** @param {string} key @returns {Promise<KeptPhoto | undefined>} */
export const photo = (key) => read('photos', (store) => store.get(key))
/** @param {readonly string[]} keys */
export const dropPhotos = (keys) =>
  within('photos', 'readwrite', (store) => {
    for (const key of keys) store.delete(key)
  })

/** Remove what no draft and no entry names any more, after a day. @param {string} user */
export async function sweepPhotos(user) {
  const named = new Set()
  for (const { blocks } of await drafts(user)) {
    for (const block of blocks) if ('photo' in block) named.add(block.photo.key)
  }
  for (const entry of await entries(user))
    if (entry.kind !== 'delete') for (const { key } of entry.photos) named.add(key)
  const yesterday = Date.now() - 86_400_000
  await within('photos', 'readwrite', (store) => {
    const walk = store.index('user').openCursor(user)
    walk.onsuccess = () => {
      if (!walk.result) return
      const { key, since } = walk.result.value
      if (!named.has(key) && since < yesterday) walk.result.delete()
      walk.result.continue()
    }
  })
}

// ---- what is to be sent

/** @param {string} user @returns {Promise<Entry[]>} in the order in which they were written */
export const entries = (user) => read('outbox', (store) => store.index('user').getAll(user))

/**
 * Take a dream from the drafts into what is to be sent, in one step: it is always in one of the two.
 * @param {Entry} entry @param {string} [draftKey]
 */
export async function send(entry, draftKey) {
  const db = await database()
  await new Promise((resolve, reject) => {
    const transaction = db.transaction(['outbox', 'drafts'], 'readwrite', { durability: 'strict' })
    transaction.oncomplete = resolve
    transaction.onabort = () => reject(transaction.error)
    transaction.objectStore('outbox').put(entry)
    if (draftKey) transaction.objectStore('drafts').delete(draftKey)
    transaction.commit()
  })
}

/** The way back. @param {Entry} entry @param {Draft} [draft] */
export async function takeBack(entry, draft) {
  const db = await database()
  await new Promise((resolve, reject) => {
    const transaction = db.transaction(['outbox', 'drafts'], 'readwrite', { durability: 'strict' })
    transaction.oncomplete = resolve
    transaction.onabort = () => reject(transaction.error)
    transaction.objectStore('outbox').delete(/** @type {number} */ (entry.seq))
    if (draft) transaction.objectStore('drafts').put(draft)
  })
}

/** Change an entry, unless it has been taken back meanwhile. @param {Entry} entry */
export const keepEntry = (entry) =>
  within('outbox', 'readwrite', (store) => {
    const there = store.getKey(/** @type {number} */ (entry.seq))
    there.onsuccess = () => there.result !== undefined && store.put(entry)
  })

// ---- dreams that were read

/** @param {string} user @param {Dream} dream */
export const keepDream = (user, dream) =>
  write('dreams', (store) => store.put({ user, night: new Date(dream.dreamed_at).getTime(), dream }))

/** @param {string} user @param {string} id */
export const dropDream = (user, id) => write('dreams', (store) => store.delete([user, id]))

/** @param {string} user @param {string} id @returns {Promise<Dream | undefined>} */
export const dream = async (user, id) =>
  /** @type {{dream: Dream} | undefined} */ (await read('dreams', (store) => store.get([user, id])))?.dream

/** The newest nights first. @param {string} user @returns {Promise<Dream[]>} */
export const dreams = (user) =>
  within('dreams', 'readonly', (store, done) => {
    /** @type {Dream[]} */
    const found = []
    done(found)
    const range = IDBKeyRange.bound([user, -Infinity], [user, Infinity])
    const walk = store.index('night').openCursor(range, 'prev')
    walk.onsuccess = () => {
      if (!walk.result || found.length >= KEPT) return
      found.push(walk.result.value.dream)
      walk.result.continue()
    }
  })

/** Nothing that was read stays on this device. @param {string} user */
export const dropDreams = (user) => write('dreams', (store) => store.delete(IDBKeyRange.bound([user], [user, []])))

/** Nothing of an account that is gone stays on this device. @param {string} user */
export async function dropUser(user) {
  await dropDreams(user)
  for (const name of ['drafts', 'outbox', 'photos']) {
    await within(name, 'readwrite', (store) => {
      const walk = store.index('user').openKeyCursor(user)
      walk.onsuccess = () => {
        if (!walk.result) return
        store.delete(walk.result.primaryKey)
        walk.result.continue()
      }
    })
  }
}

// ---- facts

/** @returns {Promise<User | undefined>} who used this browser last */
export const lastUser = () => read('facts', (store) => store.get('user'))
/** @param {User | null} user */
export const keepLastUser = (user) => write('facts', (store) => (user ? store.put(user, 'user') : store.delete('user')))

/**
 * A lock that all tabs share, for `seconds`, where the browser has none of its own: pages that come over plain http.
 * @param {string} name @param {string} owner @param {number} seconds
 * @returns {Promise<boolean>} is it ours now
 */
export const lease = (name, owner, seconds) =>
  within('facts', 'readwrite', (store, done) => {
    const held = store.get(`lock ${name}`)
    held.onsuccess = () => {
      const now = Date.now()
      const free = !held.result || held.result.owner === owner || Math.abs(now - held.result.since) > 1000 * seconds
      if (free) store.put({ owner, since: now }, `lock ${name}`)
      done(free)
    }
  })

/** @param {string} name @param {string} owner */
export const release = (name, owner) =>
  within('facts', 'readwrite', (store) => {
    const held = store.get(`lock ${name}`)
    held.onsuccess = () => held.result?.owner === owner && store.delete(`lock ${name}`)
  })

/** For the holder of a lease, whose page is being closed: there is no time to look first. @param {string} name */
export const letGo = (name) => write('facts', (store) => store.delete(`lock ${name}`))
