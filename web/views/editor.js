// @ts-check
// The editor: text fields with pictures between them. New pictures are inserted at the cursor.

import { h, iconButton, setStyle, toast } from '../dom.js'
import * as photos from '../photos.js'
import { movePicture } from '../text.js'
import { t } from '../words.js'

/**
 * @typedef {import('../types').Block} Block
 * @typedef {import('../types').Photo} Photo
 * @typedef {{block: number, at: number}} Caret the index of a text block, and a UTF-16 offset in it
 */

export class Editor {
  /** @type {Block[]} */
  blocks = [{ text: '' }]
  /** @type {HTMLElement[]} one for each block */
  #fields = []
  /** @type {Caret | null} the last position of the cursor */
  #caret = null
  /** @type {Promise<unknown>} insertions of pictures, one after the other */
  #insertions = Promise.resolve()
  #closed = false

  /**
   * @param {string} user id of the owner of the pictures
   * @param {{onChange: () => void, onStorageFull: () => void, undoSeconds: number}} handlers
   *   `undoSeconds` is the time to undo a removal
   */
  constructor(user, handlers) {
    this.user = user
    this.handlers = handlers
    this.element = h('div', { class: 'editor' })
    this.files = this.#input(t('add_photo'), { accept: 'image/*,.heic,.heif,.avif', multiple: true })
    this.camera = this.#input(t('take_photo'), { accept: 'image/*', capture: 'environment' })
    this.onSelectionChange = () => this.rememberCaret()
    document.addEventListener('selectionchange', this.onSelectionChange)
  }

  close() {
    this.#closed = true
    document.removeEventListener('selectionchange', this.onSelectionChange)
  }

  /** Resolves when all pictures chosen so far are in the blocks. */
  settled() {
    return this.#insertions
  }

  /** Insert pictures that are dropped on this element or pasted into it. @param {HTMLElement} around */
  listen(around) {
    around.addEventListener('dragover', (event) => this.#onDragOver(event, around))
    around.addEventListener('dragleave', () => around.classList.remove('dropping'))
    around.addEventListener('drop', (event) => this.#onDrop(event, around))
    around.addEventListener('paste', (event) => this.#onPaste(event))
  }

  focus() {
    this.#fields[0].focus()
  }

  /** Build the elements from the blocks. @param {Block[]} [blocks] */
  show(blocks = this.blocks) {
    this.blocks = blocks
    const total = blocks.filter((block) => !('text' in block)).length
    let number = 0
    this.#fields = blocks.map((block, index) =>
      'text' in block ? this.#textField(block, index) : this.#pictureField(block, index, ++number, total),
    )
    this.element.replaceChildren(...this.#fields)
    for (const field of this.#fields) if (field instanceof HTMLTextAreaElement) grow(field)
  }

  /** @param {Block[]} blocks */
  #change(blocks) {
    this.show(blocks)
    this.handlers.onChange()
  }

  /** @param {string} label @param {import('../dom').Props} props */
  #input(label, props) {
    const change = (/** @type {Event} */ { target }) => {
      const input = /** @type {HTMLInputElement} */ (target)
      this.#insert([...(input.files ?? [])], this.#caret)
      input.value = ''
    }
    return h('input', {
      type: 'file',
      class: 'visually-hidden',
      tabindex: '-1',
      'aria-label': label,
      on: { change },
      ...props,
    })
  }

  /** @param {{text: string}} block @param {number} index */
  #textField(block, index) {
    const only = this.blocks.length === 1
    const field = h('textarea', {
      rows: 1,
      placeholder: only ? t('text') : '',
      'aria-label': t(index === 0 ? 'text' : 'text_more'),
      class: only ? 'first' : null,
      '.value': block.text,
    })
    field.addEventListener('input', () => {
      block.text = field.value
      grow(field)
      this.handlers.onChange()
    })
    field.addEventListener('keydown', (event) => this.#onKey(event, field, this.blocks.indexOf(block)))
    // After a quick click elsewhere, `selectionchange` comes too late.
    field.addEventListener('blur', () => this.rememberCaret(field))
    return field
  }

  /**
   * @param {Exclude<Block, {text: string}>} block @param {number} index
   * @param {number} number @param {number} total
   */
  #pictureField(block, index, number, total) {
    const { url, ratio } = 'photo' in block ? localPicture(block.photo) : serverPicture(block.image)
    const name = t('picture', { n: number, total })
    const picture = url ? h('img', { src: url, alt: name, decoding: 'async' }) : h('p', null, name)
    picture.addEventListener('error', () => picture.replaceWith(h('p', null, name)))
    const first = index === 1 && textOf(this.blocks[0]) === ''
    const last = index === this.blocks.length - 2 && textOf(this.blocks[index + 1]) === ''
    const box = h(
      'figure',
      { class: 'picture', role: 'group', 'aria-label': t('picture_number', { n: number }) },
      h('div', { class: 'over' }, picture),
      h(
        'div',
        { class: 'row picture-tools' },
        iconButton('up', t('move_up'), () => this.#move(index, -1), { disabled: first }),
        iconButton('down', t('move_down'), () => this.#move(index, 1), { disabled: last }),
        iconButton('remove', t('remove_picture'), () => this.#remove(index)),
      ),
    )
    setStyle(box, '--ratio', ratio)
    return box
  }

  /** @param {number} index @param {-1 | 1} by */
  #move(index, by) {
    const picture = this.blocks[index]
    this.#change(movePicture(this.blocks, index, by))
    const box = this.#fields[this.blocks.indexOf(picture)]
    const [up, down] = /** @type {NodeListOf<HTMLButtonElement>} */ (box.querySelectorAll('button'))
    const [same, other] = by < 0 ? [up, down] : [down, up]
    ;(same.disabled ? other : same).focus()
    box.scrollIntoView({ block: 'nearest' })
  }

  /** @param {number} index */
  #remove(index) {
    const whole = this.blocks.map((block) => ({ ...block }))
    const before = textOf(this.blocks[index - 1])
    const text = before + textOf(this.blocks[index + 1])
    this.#change([...this.blocks.slice(0, index - 1), { text }, ...this.blocks.slice(index + 2)])
    this.#putCaret({ block: index - 1, at: before.length })
    const undo = () => this.#closed || this.#change(whole)
    toast(t('picture_removed'), { label: t('undo'), act: undo, seconds: this.handlers.undoSeconds })
  }

  /** @param {readonly File[]} chosen @param {Caret | null} caret */
  #insert(chosen, caret) {
    this.#insertions = this.#insertions.then(() => this.#insertNow(chosen, caret))
  }

  /** @param {readonly File[]} chosen @param {Caret | null} caret */
  async #insertNow(chosen, caret) {
    /** @type {Photo[]} */
    const taken = []
    for (const file of chosen) {
      // An early check for the user; the server checks the first bytes of each file.
      if (file.type && !file.type.startsWith('image/')) {
        toast(t('not_a_picture', { name: file.name }))
        continue
      }
      const { photo, stored } = await photos.add(file, this.user)
      if (!stored) this.handlers.onStorageFull()
      taken.push(photo)
    }
    if (!taken.length) return
    const end = this.blocks.length - 1
    const { block, at } =
      caret && this.blocks[caret.block] && 'text' in this.blocks[caret.block] ? caret : { block: end, at: Infinity }
    const text = textOf(this.blocks[block])
    /** @type {Block[]} */
    const inserted = [{ text: text.slice(0, at) }]
    for (const photo of taken) inserted.push({ photo }, { text: '' })
    inserted[inserted.length - 1] = { text: text.slice(at) }
    this.#change([...this.blocks.slice(0, block), ...inserted, ...this.blocks.slice(block + 1)])
    this.#putCaret({ block: block + 2 * taken.length, at: 0 })
    this.#fields[block + 2 * taken.length - 1].scrollIntoView({ block: 'nearest' })
  }

  // ---- the cursor

  /** @param {Caret} caret */
  #putCaret(caret) {
    const field = this.#fields[caret.block]
    if (!(field instanceof HTMLTextAreaElement)) return
    field.focus({ preventScroll: true })
    field.setSelectionRange(caret.at, caret.at)
    this.#caret = caret
  }

  rememberCaret(field = document.activeElement) {
    if (!(field instanceof HTMLTextAreaElement)) return
    const block = this.#fields.indexOf(field)
    if (block >= 0) this.#caret = { block, at: field.selectionStart }
  }

  /** @param {KeyboardEvent} event @param {HTMLTextAreaElement} field @param {number} index */
  #onKey(event, field, index) {
    const { selectionStart: at, selectionEnd, value } = field
    if (at !== selectionEnd || event.isComposing) return
    const last = this.blocks.length - 1
    /** @type {(() => void) | undefined} */
    let work
    if (at === 0 && index > 0) {
      const caret = { block: index - 2, at: textOf(this.blocks[index - 2]).length }
      if (event.key === 'Backspace') work = () => this.#remove(index - 1)
      if (event.key === 'ArrowUp' || event.key === 'ArrowLeft') work = () => this.#putCaret(caret)
    }
    if (at === value.length && index < last) {
      if (event.key === 'Delete') work = () => this.#remove(index + 1)
      if (event.key === 'ArrowDown' || event.key === 'ArrowRight')
        work = () => this.#putCaret({ block: index + 2, at: 0 })
    }
    if (!work) return
    event.preventDefault()
    work()
  }

  // ---- dropping and pasting

  /** @param {ClipboardEvent} event */
  #onPaste(event) {
    const data = event.clipboardData
    // Some text editors copy an image of the text together with the text.
    if (!data?.files.length || data.types.includes('text/plain')) return
    event.preventDefault()
    this.rememberCaret()
    this.#insert([...data.files], this.#caret)
  }

  /** @param {DragEvent} event @param {HTMLElement} around */
  #onDragOver(event, around) {
    if (!event.dataTransfer?.types.includes('Files')) return
    event.preventDefault()
    event.dataTransfer.dropEffect = 'copy'
    around.classList.add('dropping')
    // The cursor shows where the pictures will be inserted.
    const caret = this.#caretAt(event)
    if (caret) this.#putCaret(caret)
  }

  /** @param {DragEvent} event @param {HTMLElement} around */
  #onDrop(event, around) {
    around.classList.remove('dropping')
    if (!event.dataTransfer?.files.length) return
    event.preventDefault()
    this.#insert([...event.dataTransfer.files], this.#caretAt(event) ?? this.#caret)
  }

  /** The position in the text under the pointer. @param {DragEvent} event @returns {Caret | null} */
  #caretAt({ clientX, clientY, target }) {
    if (!(target instanceof HTMLTextAreaElement)) return null
    const block = this.#fields.indexOf(target)
    if (block < 0) return null
    const position = document.caretPositionFromPoint?.(clientX, clientY)
    if (position?.offsetNode === target) return { block, at: position.offset }
    return { block, at: this.#caret?.block === block ? this.#caret.at : target.value.length }
  }
}

/** The text of a text block, or else an empty string. @param {Block | undefined} block */
export const textOf = (block) => (block && 'text' in block ? block.text : '')

/** @param {Photo} photo */
const localPicture = ({ key, width, height }) => ({
  url: photos.url(key),
  ratio: width && height ? width / height : 4 / 3,
})

/** @param {import('../types').Image} image */
function serverPicture({ variants, placeholder, width, height }) {
  return { url: variants['1024']?.url ?? placeholder ?? '', ratio: width && height ? width / height : 4 / 3 }
}

/** Fit the height to the text, in browsers without `field-sizing`. @param {HTMLTextAreaElement} field */
function grow(field) {
  if (CSS.supports('field-sizing', 'content')) return
  field.style.height = 'auto'
  field.style.height = `${field.scrollHeight}px`
}
