// @ts-check
// Writing a dream, or changing one: text with pictures at the cursor, kept on this device with every change.

import { h, icon, iconButton, setStyle, toast } from '../dom.js'
import { journal } from '../journal.js'
import { hold, key as newKey } from '../locks.js'
import { UNDO, outbox } from '../outbox.js'
import * as photos from '../photos.js'
import { session } from '../session.js'
import * as store from '../store.js'
import { blocksOf, flatten, length, moved } from '../text.js'
import { MOODS, moodName, t } from '../words.js'

/**
 * @typedef {import('../types').Block} Block
 * @typedef {import('../types').Draft} Draft
 * @typedef {import('../types').Dream} Dream
 * @typedef {import('../types').Photo} Photo
 */

const PAUSE = 300 // milliseconds of not typing after which the draft is kept
const MOST = 100_000 // code points; the server's limits
const MOST_TITLE = 200
const MOST_TAGS = 20
const MOST_TAG = 50

/** The draft of a change has the name of its dream. @param {string} dreamId */
export const draftOf = (dreamId) => `edit-${session.user?.id}-${dreamId}`

/**
 * @param {{draftKey: string, dreamId: string}} what empty: the draft that is there, or a new one; a new dream
 * @param {import('../app').App} app @returns {import('../types').View}
 */
export function writeView({ draftKey, dreamId }, app) {
  const user = /** @type {import('../types').User} */ (session.user).id
  /** @type {Dream | null} the dream before its change */
  let before = null
  /** @type {Draft} */
  let draft
  /** @type {Block[]} */
  let blocks = [{ text: '' }]
  /** @type {(HTMLTextAreaElement | HTMLElement)[]} one for each block */
  let fields = []
  /** @type {{block: number, at: number} | null} where the cursor was last */
  let caret = null
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer
  let leave = () => {}
  let ended = false
  let touched = false
  /** @type {Promise<unknown>} pictures that are being taken in, one choice after the other */
  let taking = Promise.resolve()

  const title = h('input', { class: 'title', maxlength: MOST_TITLE, placeholder: t('title_hint'), 'aria-label': t('title'), on: { input: change } })
  const editor = h('div', { class: 'editor' })
  const when = h('input', { type: 'datetime-local', required: true, on: { input: change } })
  const moods = h('div', { class: 'choices', role: 'radiogroup', 'aria-label': t('mood') })
  const lucidity = h('select', { on: { change } }, ['', 0, 1, 2, 3, 4, 5].map((n) => h('option', { value: n }, t(n === '' ? 'lucidity_none' : /** @type {any} */ (`lucidity_${n}`)))))
  const tagList = h('span', { class: 'chips' })
  const tagField = h('input', { placeholder: t('tags_hint'), maxlength: MOST_TAG, list: 'known-tags', enterkeyhint: 'enter', 'aria-label': t('tags'), on: { keydown: onTagKey, change: takeTag, blur: takeTag } })
  const kept = h('p', { class: 'kept', role: 'status' })
  const save = h('button', { type: 'submit', class: 'main' }, t('save'))
  const files = h('input', { type: 'file', accept: 'image/*,.heic,.heif,.avif', multiple: true, class: 'unseen', tabindex: '-1', 'aria-label': t('add_photo'), on: { change: onPicked } })
  const camera = h('input', { type: 'file', accept: 'image/*', capture: 'environment', class: 'unseen', tabindex: '-1', 'aria-label': t('take_photo'), on: { change: onPicked } })
  const dropHint = h('p', { class: 'drop-hint', 'aria-hidden': 'true' }, t('drop_here'))
  const form = h(
    'form',
    { class: 'write', hidden: true, on: { submit: onSave, keydown: onKey } },
    h('h1', { class: 'unseen' }, t(dreamId ? 'edit_title' : 'write')),
    title,
    editor,
    h(
      'div',
      { class: 'facts' },
      h('label', null, h('span', null, t('when')), when),
      h('label', null, h('span', null, t('lucidity')), lucidity),
      h('div', { class: 'field' }, h('span', null, t('mood')), moods),
      h('div', { class: 'field' }, h('span', null, t('tags')), tagList, tagField, h('datalist', { id: 'known-tags' }, journal.tags().slice(0, 50).map((value) => h('option', { value })))),
    ),
    kept,
    h(
      'div',
      { class: 'bar' },
      iconButton('photo', t('add_photo'), () => files.click()),
      iconButton('camera', t('take_photo'), () => camera.click(), { class: 'plain touch-only' }),
      h('button', { type: 'button', class: 'plain', on: { click: discard } }, t(dreamId ? 'cancel' : 'discard')),
      save,
    ),
    files,
    camera,
    dropHint,
  )
  const element = h('main', { id: 'content', tabindex: '-1', 'aria-busy': 'true' }, form)
  const view = { element, title: t(dreamId ? 'edit_title' : 'write'), close }

  form.addEventListener('dragover', onDragOver)
  form.addEventListener('dragleave', () => form.classList.remove('dropping'))
  form.addEventListener('drop', onDrop)
  form.addEventListener('paste', onPaste)
  document.addEventListener('selectionchange', rememberCaret)
  addEventListener('pagehide', flush)
  document.addEventListener('visibilitychange', flush)
  open()
  return view

  async function open() {
    const found = dreamId ? await openChange() : await openNew()
    if (ended) return
    if (!found) return app.replace('#/')
    draft = found
    const { fields: given } = draft
    title.value = given.title
    when.value = given.dreamed_at.slice(0, 16)
    lucidity.value = given.lucidity === null ? '' : String(given.lucidity)
    showMoods(given.mood)
    showTags()
    blocks = draft.blocks
    await photos.load(blocks.flatMap((block) => ('photo' in block ? [block.photo] : [])))
    form.hidden = false
    show()
    element.removeAttribute('aria-busy')
    const focused = document.activeElement
    if (!focused || focused === document.body || focused === element) (title.value || dreamId ? fields[0] : title).focus()
  }

  /** The draft that was left, if no other tab has it open; or a new one. @returns {Promise<Draft>} */
  async function openNew() {
    const drafts = (await store.drafts(user)).filter((each) => each.dreamId === null)
    drafts.sort((a, b) => Number(b.key === draftKey) - Number(a.key === draftKey) || b.changedAt - a.changedAt)
    for (const each of drafts) {
      const free = await hold(`dreamlog draft ${each.key}`)
      if (!free) continue
      leave = free
      return each
    }
    const key = `new-${newKey()}`
    leave = (await hold(`dreamlog draft ${key}`)) ?? leave
    const nothing = { title: '', dreamed_at: local(new Date()), mood: null, lucidity: null, tags: [] }
    return { key, user, dreamId: null, fields: nothing, blocks: [{ text: '' }], changedAt: Date.now() }
  }

  /** @returns {Promise<Draft | null>} */
  async function openChange() {
    const shown = await journal.get(dreamId).catch(() => journal.known(dreamId))
    if (!shown) return null
    before = /** @type {Dream} */ ({ ...shown, images: shown.images.filter(({ id }) => id !== 0) })
    const written = await store.draft(draftOf(dreamId))
    if (written) return written
    const { content, images, title, dreamed_at, mood, lucidity, tags } = before
    const fields = { title, dreamed_at, mood, lucidity, tags }
    return { key: draftOf(dreamId), user, dreamId, fields, blocks: blocksOf(content, images), changedAt: Date.now() }
  }

  function close() {
    ended = true
    flush()
    leave()
    document.removeEventListener('selectionchange', rememberCaret)
    removeEventListener('pagehide', flush)
    document.removeEventListener('visibilitychange', flush)
  }

  // ---- the text and its pictures

  /** Build the editor's elements from the blocks. */
  function show() {
    const total = blocks.filter((block) => !('text' in block)).length
    let number = 0
    fields = blocks.map((block, index) => ('text' in block ? textField(block, index) : pictureField(block, index, ++number, total)))
    editor.replaceChildren(...fields)
    for (const field of fields) if (field instanceof HTMLTextAreaElement) grow(field)
  }

  /** @param {{text: string}} block @param {number} index */
  function textField(block, index) {
    const only = blocks.length === 1
    const field = h('textarea', {
      rows: 1,
      placeholder: index === 0 && only ? t('text') : '',
      'aria-label': t(index === 0 ? 'text' : 'text_more'),
      class: only ? 'first' : null,
      '.value': block.text,
    })
    field.addEventListener('input', () => {
      block.text = field.value
      grow(field)
      change()
    })
    field.addEventListener('keydown', (event) => onTextKey(event, field, blocks.indexOf(block)))
    return field
  }

  /** @param {Exclude<Block, {text: string}>} block @param {number} index @param {number} number @param {number} total */
  function pictureField(block, index, number, total) {
    const { url, ratio } = 'photo' in block ? local_picture(block.photo) : server_picture(block.image)
    const name = t('picture', { n: number, total })
    const picture = url ? h('img', { src: url, alt: name, decoding: 'async' }) : h('p', null, name)
    picture.addEventListener('error', () => picture.replaceWith(h('p', null, name)))
    const box = h('figure', { class: 'picture', role: 'group', 'aria-label': t('picture_options', { n: number }) }, h('div', { class: 'over' }, picture))
    setStyle(box, '--ratio', ratio)
    const first = index === 1 && isText(blocks[0]) === ''
    const last = index === blocks.length - 2 && isText(blocks[blocks.length - 1]) === ''
    box.append(
      h(
        'div',
        { class: 'row picture-tools' },
        iconButton('up', t('move_up'), () => move(index, -1), { disabled: first }),
        iconButton('down', t('move_down'), () => move(index, 1), { disabled: last }),
        iconButton('remove', t('remove_picture'), () => removePicture(index)),
      ),
    )
    return box
  }

  /** @param {number} index @param {-1 | 1} by */
  function move(index, by) {
    const picture = blocks[index]
    blocks = moved(blocks, index, by)
    show()
    change()
    const box = fields[blocks.indexOf(picture)]
    const buttons = /** @type {HTMLButtonElement[]} */ ([...box.querySelectorAll('button')])
    ;(buttons[by < 0 ? 0 : 1].disabled ? buttons[by < 0 ? 1 : 0] : buttons[by < 0 ? 0 : 1]).focus()
    box.scrollIntoView({ block: 'nearest' })
  }

  /** @param {number} index */
  function removePicture(index) {
    const whole = blocks.map((block) => ({ ...block }))
    const cut = isText(blocks[index - 1]).length
    const text = isText(blocks[index - 1]) + isText(blocks[index + 1])
    blocks = [...blocks.slice(0, index - 1), { text }, ...blocks.slice(index + 2)]
    show()
    change()
    putCaret(index - 1, cut)
    const undo = () => {
      if (ended) return
      blocks = whole
      show()
      change()
    }
    toast(t('remove_picture'), { label: t('undo'), undo, seconds: UNDO })
  }

  /** @param {readonly File[]} chosen @param {{block: number, at: number} | null} place */
  function insert(chosen, place) {
    taking = taking.then(() => take(chosen, place))
  }

  /** @param {readonly File[]} chosen @param {{block: number, at: number} | null} place */
  async function take(chosen, place) {
    /** @type {Photo[]} */
    const taken = []
    for (const file of chosen) {
      // The server tells pictures by their first bytes; this only spares people a round.
      if (file.type && !file.type.startsWith('image/')) {
        toast(t('not_a_picture', { name: file.name }))
        continue
      }
      const { photo, kept } = await photos.add(file, user)
      if (!kept) notKept('')
      taken.push(photo)
    }
    if (!taken.length || ended) return
    let { block, at } = place ?? { block: blocks.length - 1, at: isText(blocks[blocks.length - 1]).length }
    if (!blocks[block] || !('text' in blocks[block])) block = blocks.length - 1
    const text = isText(blocks[block])
    at = Math.min(at, text.length)
    /** @type {Block[]} */
    const inserted = [{ text: text.slice(0, at) }]
    taken.forEach((photo, index) => inserted.push({ photo }, { text: index === taken.length - 1 ? text.slice(at) : '' }))
    blocks = [...blocks.slice(0, block), ...inserted, ...blocks.slice(block + 1)]
    show()
    change()
    putCaret(block + 2 * taken.length, 0)
    fields[block + 2 * taken.length - 1].scrollIntoView({ block: 'nearest' })
  }

  /** @param {number} block @param {number} at */
  function putCaret(block, at) {
    const field = fields[block]
    if (!(field instanceof HTMLTextAreaElement)) return
    field.focus({ preventScroll: true })
    field.setSelectionRange(at, at)
    caret = { block, at }
  }

  function rememberCaret() {
    const field = document.activeElement
    if (!(field instanceof HTMLTextAreaElement)) return
    const block = fields.indexOf(field)
    if (block >= 0) caret = { block, at: field.selectionStart }
  }

  /** @param {Event} event */
  function onPicked({ target }) {
    const input = /** @type {HTMLInputElement} */ (target)
    insert([...(input.files ?? [])], caret)
    input.value = ''
  }

  /** @param {ClipboardEvent} event */
  function onPaste(event) {
    const data = event.clipboardData
    // Text editors put a picture of the text beside the text.
    if (!data?.files.length || data.types.includes('text/plain')) return
    event.preventDefault()
    rememberCaret()
    insert([...data.files], caret)
  }

  /** @param {DragEvent} event */
  function onDragOver(event) {
    if (!event.dataTransfer?.types.includes('Files')) return
    event.preventDefault()
    event.dataTransfer.dropEffect = 'copy'
    form.classList.add('dropping')
    // The cursor shows where they will be.
    const place = placeAt(event)
    if (place) putCaret(place.block, place.at)
  }

  /** @param {DragEvent} event */
  function onDrop(event) {
    form.classList.remove('dropping')
    if (!event.dataTransfer?.files.length) return
    event.preventDefault()
    insert([...event.dataTransfer.files], placeAt(event) ?? caret)
  }

  /** Where in the text the pointer is. @param {DragEvent} event */
  function placeAt({ clientX, clientY, target }) {
    const block = fields.indexOf(/** @type {any} */ (target))
    if (!(target instanceof HTMLTextAreaElement) || block < 0) return null
    const position = document.caretPositionFromPoint?.(clientX, clientY)
    if (position?.offsetNode === target) return { block, at: position.offset }
    return { block, at: caret?.block === block ? caret.at : target.value.length }
  }

  /** @param {KeyboardEvent} event @param {HTMLTextAreaElement} field @param {number} index */
  function onTextKey(event, field, index) {
    const { selectionStart: at, selectionEnd, value } = field
    if (at !== selectionEnd || event.isComposing) return
    const go = (/** @type {number} */ to, /** @type {number} */ place) => {
      if (!(fields[to] instanceof HTMLTextAreaElement)) return
      event.preventDefault()
      putCaret(to, place)
    }
    if (at === 0 && index > 0) {
      if (event.key === 'Backspace') return event.preventDefault(), removePicture(index - 1)
      if (event.key === 'ArrowUp' || event.key === 'ArrowLeft') go(index - 2, isText(blocks[index - 2]).length)
    }
    if (at === value.length && index < blocks.length - 1) {
      if (event.key === 'Delete') return event.preventDefault(), removePicture(index + 1)
      if (event.key === 'ArrowDown' || event.key === 'ArrowRight') go(index + 2, 0)
    }
  }

  /** @param {KeyboardEvent} event */
  function onKey(event) {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) form.requestSubmit()
    // Enter in a line of its own is not "save": half a dream would be sent.
    else if (event.key === 'Enter' && event.target === title) event.preventDefault(), fields[0].focus()
  }

  // ---- the other fields

  /** @param {string | null} chosen */
  function showMoods(chosen) {
    const known = /** @type {readonly string[]} */ (MOODS)
    const offered = chosen && !known.includes(chosen) ? [...known, chosen] : known
    moods.replaceChildren(
      ...offered.map((mood) => {
        const input = h('input', { type: 'radio', name: 'mood', value: mood, '.checked': mood === chosen, on: { change } })
        // A second click takes the choice back.
        input.addEventListener('click', () => {
          if (draft.fields.mood === mood) (input.checked = false), change()
        })
        return h('label', { class: 'chip' }, input, moodName(mood))
      }),
    )
  }

  function showTags() {
    tagList.replaceChildren(
      ...draft.fields.tags.map((tag) => {
        const remove = () => {
          draft.fields.tags = draft.fields.tags.filter((each) => each !== tag)
          showTags()
          change()
          tagField.focus()
        }
        return h('span', { class: 'chip' }, `#${tag}`, iconButton('close', t('remove_tag', { tag }), remove))
      }),
    )
  }

  function takeTag() {
    const given = tagField.value.split(/[,，、]/).map((tag) => tag.trim().replace(/^#/, '').slice(0, MOST_TAG))
    tagField.value = ''
    const added = given.filter((tag) => tag && !draft.fields.tags.includes(tag))
    if (!added.length) return
    const tags = [...draft.fields.tags, ...new Set(added)]
    if (tags.length > MOST_TAGS) toast(t('too_many_tags', { n: MOST_TAGS }))
    draft.fields.tags = tags.slice(0, MOST_TAGS)
    showTags()
    change()
  }

  /** @param {KeyboardEvent} event */
  function onTagKey(event) {
    if (event.isComposing || event.ctrlKey || event.metaKey) return
    if (event.key === 'Enter' || event.key === ',') event.preventDefault(), takeTag()
    if (event.key === 'Backspace' && !tagField.value && draft.fields.tags.length) {
      draft.fields.tags = draft.fields.tags.slice(0, -1)
      showTags()
      change()
    }
  }

  // ---- the draft

  function read() {
    const mood = /** @type {HTMLInputElement | null} */ (moods.querySelector('input:checked'))?.value ?? null
    const { dreamed_at, tags } = draft.fields
    // The clock that the dream was dreamed by stays, where the time was not changed.
    const moment = when.value === dreamed_at.slice(0, 16) || !when.value ? dreamed_at : local(new Date(when.value))
    draft.fields = { title: title.value, dreamed_at: moment, mood, lucidity: lucidity.value ? Number(lucidity.value) : null, tags }
    draft.blocks = blocks
    draft.changedAt = Date.now()
  }

  function change() {
    if (!draft) return
    touched = true
    read()
    clearTimeout(timer)
    kept.textContent = t('saving_draft')
    timer = setTimeout(keep, PAUSE)
  }

  async function keep() {
    clearTimeout(timer)
    timer = undefined
    try {
      // Blocks of text and photos are the editor's own: what is kept must not change any more.
      await store.keepDraft(structuredClone(draft))
      if (!timer) kept.textContent = t('saved_here')
    } catch (error) {
      notKept(String(/** @type {any} */ (error)?.message ?? error))
    }
  }

  /** @param {string} detail */
  function notKept(detail) {
    kept.textContent = t('draft_not_kept', { detail })
  }

  /** What the timer would do, now. */
  function flush() {
    if (timer) keep()
  }

  async function discard() {
    clearTimeout(timer)
    timer = undefined
    const given_up = structuredClone(draft)
    await store.dropDraft(draft.key)
    app.replace(dreamId ? `#/dream/${dreamId}` : '#/')
    if (!touched && !dreamId && isEmpty(given_up)) return
    const undo = async () => {
      await store.keepDraft(given_up)
      app.go(dreamId ? `#/edit/${dreamId}` : `#/write/${given_up.key}`)
    }
    if (touched || !dreamId) toast(t('discarded'), { label: t('undo'), undo, seconds: UNDO })
  }

  /** @param {Event} event */
  async function onSave(event) {
    event.preventDefault()
    await taking // a large photo takes a moment
    if (ended || save.disabled) return // Ctrl+Enter, twice
    takeTag()
    read()
    const { content, photos: placed, images } = flatten(blocks)
    if (!title.value.trim() && !content.trim() && !placed.length && !images.length) {
      toast(t('nothing_written'))
      return fields[0].focus()
    }
    if (length(content) > MOST) return toast(t('too_long', { n: length(content), most: MOST }))
    clearTimeout(timer)
    timer = undefined
    save.disabled = true
    try {
      const written = { ...draft.fields, content }
      if (before) return await saveChange(before, written, placed, images)
      const key = await outbox.add({ kind: 'create', fields: written, photos: placed, notBefore: 0 }, draft.key)
      app.replace(`#/dream/${journal.localId(key)}`)
    } catch (error) {
      // This device has no room: the draft stays as it is.
      save.disabled = false
      notKept(String(error))
    }
  }

  /**
   * @param {Dream} before @param {import('../types').DreamFields} written
   * @param {import('../types').PlacedPhoto[]} placed @param {{id: number, position: number}[]} positions
   */
  async function saveChange(before, written, placed, positions) {
    const staying = new Set(positions.map(({ id }) => id))
    const remove = before.images.map(({ id }) => id).filter((id) => !staying.has(id))
    const keys = [
      await outbox.add({ kind: 'change', dreamId, fields: written, positions, photos: placed, remove: [], notBefore: 0 }, draft.key),
    ]
    // Only this cannot be taken back once it is done, so it waits.
    const notBefore = Date.now() + 1000 * UNDO
    if (remove.length) {
      keys.push(await outbox.add({ kind: 'change', dreamId, fields: {}, positions: [], photos: [], remove, notBefore }))
    }
    app.replace(`#/dream/${dreamId}`)
    const undo = async () => {
      for (const entry of keys.map((key) => outbox.find(key))) if (entry) await outbox.takeBack(entry)
      const { title, content, dreamed_at, mood, lucidity, tags, images } = before
      const there = new Set(images.map(({ id }) => id))
      const added = (journal.shown(dreamId)?.images ?? []).map(({ id }) => id).filter((id) => id && !there.has(id))
      await outbox.add({
        kind: 'change',
        dreamId,
        fields: { title, content, dreamed_at, mood, lucidity, tags },
        positions: images.map(({ id, position }) => ({ id, position })),
        photos: [],
        remove: added,
        notBefore: 0,
      })
    }
    toast(t('saved'), { label: t('undo'), undo, seconds: UNDO })
  }
}

/** The text of a block that has one. @param {Block | undefined} block */
const isText = (block) => (block && 'text' in block ? block.text : '')

/** @param {Draft} draft */
const isEmpty = ({ fields, blocks }) => !fields.title && blocks.length === 1 && !isText(blocks[0])

/** @param {Photo} photo */
const local_picture = ({ key, width, height }) => ({ url: photos.url(key), ratio: width && height ? width / height : 4 / 3 })

/** @param {import('../types').Image} image */
function server_picture({ variants, placeholder, width, height }) {
  return { url: variants['1024']?.url ?? placeholder ?? '', ratio: width && height ? width / height : 4 / 3 }
}

/** As high as its text, in browsers that cannot do that by themselves. @param {HTMLTextAreaElement} field */
function grow(field) {
  if (CSS.supports('field-sizing', 'content')) return
  field.style.height = 'auto'
  field.style.height = `${field.scrollHeight}px`
}

/** RFC 3339 by this device's clock, with its offset. @param {Date} date */
function local(date) {
  const pad = (/** @type {number} */ n) => String(Math.trunc(Math.abs(n))).padStart(2, '0')
  const east = -date.getTimezoneOffset()
  const shifted = new Date(date.getTime() + 60_000 * east).toISOString().slice(0, 19)
  return `${shifted}${east < 0 ? '-' : '+'}${pad(east / 60)}:${pad(east % 60)}`
}
