// @ts-check
// Pictures that are still on this device: kept once, however often the draft around them is.

import { key } from './locks.js'
import * as store from './store.js'

/** @typedef {import('./types').Photo} Photo */

/** @type {Map<string, Blob>} */
const blobs = new Map()
/** @type {Map<string, string>} */
const urls = new Map()

/**
 * Take a picture in. It is shown even when this device has no room to keep it.
 * @param {Blob} file @param {string} user
 * @returns {Promise<{photo: Photo, kept: boolean}>}
 */
export async function add(file, user) {
  const photo = { key: key(), width: null, height: null }
  blobs.set(photo.key, file)
  const kept = await store.keepPhoto({ key: photo.key, user, since: Date.now(), blob: file }).then(
    () => true,
    () => false,
  )
  return { photo: { ...photo, ...(await measure(url(photo.key))) }, kept }
}

/** Have the pictures of these at hand. @param {readonly Photo[]} photos */
export async function load(photos) {
  for (const { key } of photos) {
    if (blobs.has(key)) continue
    const kept = await store.photo(key)
    if (kept) blobs.set(key, kept.blob)
  }
}

/** @param {string} key @returns {Blob | undefined} */
export const blob = (key) => blobs.get(key)

/** Its address on this device; empty when it is not here. @param {string} key */
export function url(key) {
  const blob = blobs.get(key)
  if (!blob) return ''
  const known = urls.get(key)
  if (known) return known
  const made = URL.createObjectURL(blob)
  urls.set(key, made)
  return made
}

/** They need not be kept any more; while the page is open they are still shown. @param {readonly Photo[]} photos */
export function drop(photos) {
  return store.dropPhotos(photos.map(({ key }) => key))
}

/** Upright size in pixels; nulls where this browser cannot read it. @param {string} url */
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
