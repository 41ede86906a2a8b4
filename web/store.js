// @ts-check
// The database of this device: drafts, unsent entries, photos and saved dreams. All tabs share it (IndexedDB).

/**
 * @typedef {import('./types').Draft} Draft
 * @typedef {import('./types').Dream} Dream
 * @typedef {import('./types').Entry} Entry
 * @typedef {import('./types').User} User
 */

const MAX_DREAMS = 500 // dreams of each user that are available offline

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
      // Let a tab with newer code upgrade the database.
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
 * Run `work` in a transaction; resolves once the transaction is durable.
 * @template T
 * @param {string} name @param {IDBTransactionMode} mode
 * @param {(store: IDBObjectStore, done: (value: T) => void) => void} work
 * @returns {Promise<T>}
 */
async function transact(name, mode, work) {
  const db = await database()
  return new Promise((resolve, reject) => {
    // Strict: the data survives a battery that dies.
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
  transact(name, 'readonly', (store, done) => {
    const request = ask(store)
    request.onsuccess = () => done(request.result)
  })

/** @param {string} name @param {(store: IDBObjectStore) => IDBRequest} change */
const write = (name, change) =>
  transact(name, 'readwrite', (store, done) => {
    const request = change(store)
    request.onsuccess = () => done(/** @type {any} */ (request.result))
    // Commit now: a page that closes would not receive the success event after which the browser commits.
    store.transaction.commit()
  })

// ---- drafts

/** @param {Draft} draft */
export const saveDraft = (draft) => write('drafts', (store) => store.put(draft))
/** @param {string} key */
export const deleteDraft = (key) => write('drafts', (store) => store.delete(key))
/** @param {string} key @returns {Promise<Draft | undefined>} */
export const getDraft = (key) => read('drafts', (store) => store.get(key))
/** @param {string} user @returns {Promise<Draft[]>} */
export const listDrafts = (user) => read('drafts', (store) => store.index('user').getAll(user))

// ---- photos of drafts and unsent entries

/** @typedef {{key: string, user: string, since: number, blob: Blob}} StoredPhoto `since` in Unix milliseconds */

/** @param {StoredPhoto} photo */
export const savePhoto = (photo) => write('photos', (store) => store.add(photo))
/** @param {string} key @returns {Promise<StoredPhoto | undefined>} */
export const getPhoto = (key) => read('photos', (store) => store.get(key))
/** @param {readonly string[]} keys */
export const deletePhotos = (keys) =>
  transact('photos', 'readwrite', (store) => {
    for (const key of keys) store.delete(key)
  })

/** Delete photos that no draft or entry has referenced for a day. @param {string} user */
export async function collectPhotos(user) {
  const named = new Set()
  for (const { blocks } of await listDrafts(user)) {
    for (const block of blocks) if ('photo' in block) named.add(block.photo.key)
  }
  for (const entry of await listEntries(user))
    if (entry.kind !== 'delete') for (const { key } of entry.photos) named.add(key)
  const yesterday = Date.now() - 86_400_000
  await transact('photos', 'readwrite', (store) => {
    const cursor = store.index('user').openCursor(user)
    cursor.onsuccess = () => {
      if (!cursor.result) return
      const { key, since } = cursor.result.value
      if (!named.has(key) && since < yesterday) cursor.result.delete()
      cursor.result.continue()
    }
  })
}

// ---- unsent entries

/** @param {string} user @returns {Promise<Entry[]>} in the order of sending */
export const listEntries = (user) => read('outbox', (store) => store.index('user').getAll(user))

/**
 * Add an entry and delete its draft in one transaction, so that the dream is always in one of the two.
 * @param {Entry} entry @param {string} [draftKey]
 */
export async function addEntry(entry, draftKey) {
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

/** Remove an entry and save its draft, in one transaction. @param {Entry} entry @param {Draft} [draft] */
export async function removeEntry(entry, draft) {
  const db = await database()
  await new Promise((resolve, reject) => {
    const transaction = db.transaction(['outbox', 'drafts'], 'readwrite', { durability: 'strict' })
    transaction.oncomplete = resolve
    transaction.onabort = () => reject(transaction.error)
    transaction.objectStore('outbox').delete(/** @type {number} */ (entry.seq))
    if (draft) transaction.objectStore('drafts').put(draft)
  })
}

/** Update an entry, unless it has been removed meanwhile. @param {Entry} entry */
export const saveEntry = (entry) =>
  transact('outbox', 'readwrite', (store) => {
    const existing = store.getKey(/** @type {number} */ (entry.seq))
    existing.onsuccess = () => existing.result !== undefined && store.put(entry)
  })

// ---- saved dreams

/** @param {string} user @param {Dream} dream */
export const saveDream = (user, dream) =>
  write('dreams', (store) => store.put({ user, night: new Date(dream.dreamed_at).getTime(), dream }))

/** @param {string} user @param {string} id */
export const deleteDream = (user, id) => write('dreams', (store) => store.delete([user, id]))

/** @param {string} user @param {string} id @returns {Promise<Dream | undefined>} */
export const getDream = async (user, id) =>
  /** @type {{dream: Dream} | undefined} */ (await read('dreams', (store) => store.get([user, id])))?.dream

/** The saved dreams, newest night first. @param {string} user @returns {Promise<Dream[]>} */
export const listDreams = (user) =>
  transact('dreams', 'readonly', (store, done) => {
    /** @type {Dream[]} */
    const found = []
    done(found)
    const range = IDBKeyRange.bound([user, -Infinity], [user, Infinity])
    const cursor = store.index('night').openCursor(range, 'prev')
    cursor.onsuccess = () => {
      if (!cursor.result || found.length >= MAX_DREAMS) return
      found.push(cursor.result.value.dream)
      cursor.result.continue()
    }
  })

/** Delete all saved dreams of a user. @param {string} user */
export const deleteDreams = (user) => write('dreams', (store) => store.delete(IDBKeyRange.bound([user], [user, []])))

/** Delete everything of a user from this device. @param {string} user */
export async function deleteUser(user) {
  await deleteDreams(user)
  for (const name of ['drafts', 'outbox', 'photos']) {
    await transact(name, 'readwrite', (store) => {
      const cursor = store.index('user').openKeyCursor(user)
      cursor.onsuccess = () => {
        if (!cursor.result) return
        store.delete(cursor.result.primaryKey)
        cursor.result.continue()
      }
    })
  }
}

// ---- the last user, and leases

/** @returns {Promise<User | undefined>} the user who signed in last */
export const getLastUser = () => read('facts', (store) => store.get('user'))
/** @param {User | null} user */
export const saveLastUser = (user) => write('facts', (store) => (user ? store.put(user, 'user') : store.delete('user')))

/**
 * Take or renew a lease that all tabs share, for pages over plain http, where browsers have no Web Locks.
 * @param {string} name @param {string} owner @param {number} seconds
 * @returns {Promise<boolean>} whether `owner` holds it now
 */
export const lease = (name, owner, seconds) =>
  transact('facts', 'readwrite', (store, done) => {
    const current = store.get(`lock ${name}`)
    current.onsuccess = () => {
      const now = Date.now()
      const free =
        !current.result || current.result.owner === owner || Math.abs(now - current.result.since) > 1000 * seconds
      if (free) store.put({ owner, since: now }, `lock ${name}`)
      done(free)
    }
  })

/** @param {string} name @param {string} owner */
export const release = (name, owner) =>
  transact('facts', 'readwrite', (store) => {
    const current = store.get(`lock ${name}`)
    current.onsuccess = () => current.result?.owner === owner && store.delete(`lock ${name}`)
  })

/** Release a lease while the page closes, without time to check its owner. @param {string} name */
export const releaseNow = (name) => write('facts', (store) => store.delete(`lock ${name}`))
