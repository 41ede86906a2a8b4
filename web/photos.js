// @ts-check
// Pictures on this device. Each is stored once, however often its draft is saved.

import { randomKey } from './locks.js'
import * as store from './store.js'

/** @typedef {import('./types').Photo} Photo */

/** @type {Map<string, Blob>} */
const blobs = new Map()
/** @type {Map<string, string>} */
const urls = new Map()

/**
 * Add a picture. The page shows it even if the device has no space to store it.
 * @param {Blob} file @param {string} user
 * @returns {Promise<{photo: Photo, stored: boolean}>}
 */
export async function add(file, user) {
  const photo = { key: randomKey(), width: null, height: null }
  blobs.set(photo.key, file)
  const stored = await store.savePhoto({ key: photo.key, user, since: Date.now(), blob: file }).then(
    () => true,
    () => false,
  )
  return { photo: { ...photo, ...(await measure(url(photo.key))) }, stored }
}

/** Load pictures from the database into memory. @param {readonly Photo[]} photos */
export async function load(photos) {
  for (const { key } of photos) {
    if (blobs.has(key)) continue
    const stored = await store.getPhoto(key)
    if (stored) blobs.set(key, stored.blob)
  }
}

/** @param {string} key @returns {Blob | undefined} */
export const blob = (key) => blobs.get(key)

/** The object URL of a picture in memory, or an empty string. @param {string} key */
export function url(key) {
  const blob = blobs.get(key)
  if (!blob) return ''
  const known = urls.get(key)
  if (known) return known
  const made = URL.createObjectURL(blob)
  urls.set(key, made)
  return made
}

/** Delete pictures from the database; until the page closes they stay in memory. @param {readonly Photo[]} photos */
export function remove(photos) {
  return store.deletePhotos(photos.map(({ key }) => key))
}

/** The upright size in pixels; nulls when the browser cannot decode the picture. @param {string} url */
async function measure(url) {
  const image = new Image()
  image.src = url
  try {
    await image.decode()
    return { width: image.naturalWidth, height: image.naturalHeight }
  } catch {
    return { width: null, height: null }
  }
}
