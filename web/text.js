// @ts-check
// Texts and the positions of pictures in them; no DOM. A position counts Unicode code points: an emoji is one.

/**
 * @typedef {import('./types').Block} Block
 */

/** The number of code points in `text`. @param {string} text */
export function length(text) {
  let count = 0
  for (const _ of text) count++
  return count
}

/** The UTF-16 offset of the code point at `position`. @param {string} text @param {number} position */
export function offset(text, position) {
  let at = 0
  while (position-- > 0 && at < text.length) at += (text.codePointAt(at) ?? 0) > 0xffff ? 2 : 1
  return at
}

/**
 * Split a text at the positions of its pictures. There is a piece, which may be empty, before and after each group of
 * pictures.
 * @template {{position: number}} T
 * @param {string} content
 * @param {readonly T[]} placed in the order of their positions
 * @returns {{pieces: string[], groups: T[][]}}
 */
export function split(content, placed) {
  /** @type {T[][]} */
  const groups = []
  const pieces = []
  let from = 0
  let position = -1
  for (const each of placed) {
    if (each.position === position) {
      groups[groups.length - 1].push(each)
      continue
    }
    position = each.position
    const to = offset(content, position)
    pieces.push(content.slice(from, to))
    groups.push([each])
    from = to
  }
  pieces.push(content.slice(from))
  return { pieces, groups }
}

/**
 * Convert a dream into the blocks of the editor.
 * @template {{position: number}} T
 * @param {string} content @param {readonly T[]} placed in the order of their positions
 * @param {(each: T) => Block} block makes the block of a picture
 * @returns {Block[]}
 */
export function blocksOf(content, placed, block) {
  const { pieces, groups } = split(content, placed)
  /** @type {Block[]} */
  const blocks = [{ text: pieces[0] }]
  groups.forEach((group, index) => {
    group.forEach((each, nth) => blocks.push(...(nth ? [{ text: '' }] : []), block(each)))
    blocks.push({ text: pieces[index + 1] })
  })
  return blocks
}

/**
 * Convert the blocks of the editor into a text and the positions of its pictures.
 * @param {readonly Block[]} blocks
 */
export function flatten(blocks) {
  let content = ''
  let position = 0
  /** @type {import('./types').PlacedPhoto[]} */
  const photos = []
  /** @type {{id: number, position: number}[]} */
  const images = []
  for (const block of blocks) {
    if ('text' in block) {
      content += block.text
      position += length(block.text)
    } else if ('photo' in block) photos.push({ ...block.photo, position })
    else images.push({ id: block.image.id, position })
  }
  return { content, photos, images }
}

/**
 * Move the picture at `index` over one line of text, or over one picture: up (`by` is -1) or down (1).
 * @param {readonly Block[]} blocks @param {number} index @param {-1 | 1} by
 * @returns {Block[]}
 */
export function movePicture(blocks, index, by) {
  const before = /** @type {{text: string}} */ (blocks[index - 1]).text
  const after = /** @type {{text: string}} */ (blocks[index + 1]).text
  const picture = blocks[index]
  const next = by < 0 ? before : after
  const neighbour = index + 2 * by
  if (next === '' && blocks[neighbour]) {
    // Swap it with the other picture.
    const swapped = [...blocks]
    ;[swapped[index], swapped[neighbour]] = [swapped[neighbour], swapped[index]]
    return swapped
  }
  let cut
  if (by < 0) cut = before.slice(0, -1).lastIndexOf('\n') + 1
  else cut = after.indexOf('\n', 1) < 0 ? after.length : after.indexOf('\n', 1)
  const pair =
    by < 0
      ? [{ text: before.slice(0, cut) }, picture, { text: before.slice(cut) + after }]
      : [{ text: before + after.slice(0, cut) }, picture, { text: after.slice(cut) }]
  return [...blocks.slice(0, index - 1), ...pair, ...blocks.slice(index + 2)]
}

// The first sentence of the first line, or as many of its words, or else characters, as fit into two lines.
const BEGINNING = /^(?:.{2,60}?[。！？]|.{8,80}?[.!?…](?=\s|$)|.{1,80}(?=\s|$)|.{1,60})/u

/**
 * The heading and the excerpt of a dream in a list. Without a title, the text begins in the heading and continues in the
 * excerpt.
 * @param {string} title @param {string} content
 * @returns {[heading: string, excerpt: string]}
 */
export function summary(title, content) {
  const text = content.slice(0, 400).trim()
  const heading = title || (BEGINNING.exec(text)?.[0] ?? '')
  return [
    heading,
    text
      .slice(title ? 0 : heading.length)
      .replace(/\s+/g, ' ')
      .trim(),
  ]
}

/** A number of bytes in megabytes. @param {number} bytes @param {string} language */
export function formatBytes(bytes, language) {
  const megabytes = bytes / 1e6
  return `${megabytes.toLocaleString(language, { minimumFractionDigits: 1, maximumFractionDigits: 1 })} MB`
}
