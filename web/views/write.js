// @ts-check
// Writing a dream, or changing one: text with pictures at the cursor, kept on this device with every change.

import { h, iconButton, toast } from '../dom.js'
import { journal } from '../journal.js'
import { hold, key as newKey } from '../locks.js'
import { UNDO, outbox } from '../outbox.js'
import * as photos from '../photos.js'
import { session } from '../session.js'
import * as store from '../store.js'
import { blocksOf, flatten, length } from '../text.js'
import { MOODS, moodName, t } from '../words.js'
import { Editor, textOf } from './editor.js'

/**
 * @typedef {import('../types').Draft} Draft
 * @typedef {import('../types').Dream} Dream
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
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer
  let leave = () => {}
  let ended = false
  let touched = false
  let saving = false

  const editor = new Editor(user, { changed: change, notKept: showDraftError, undo: UNDO })
  const title = h('input', {
    class: 'title',
    maxlength: MOST_TITLE,
    placeholder: t('title_hint'),
    'aria-label': t('title'),
    on: { input: change },
  })
  const when = h('input', { type: 'datetime-local', required: true, on: { input: change } })
  const moods = h('div', { class: 'choices', role: 'radiogroup', 'aria-label': t('mood') })
  const lucidity = h(
    'select',
    { on: { change } },
    ['', 0, 1, 2, 3, 4, 5].map((n) =>
      h('option', { value: n }, t(n === '' ? 'lucidity_none' : /** @type {any} */ (`lucidity_${n}`))),
    ),
  )
  const tagList = h('span', { class: 'chips' })
  const tagField = h('input', {
    placeholder: t('tags_hint'),
    maxlength: MOST_TAG,
    list: 'known-tags',
    enterkeyhint: 'enter',
    'aria-label': t('tags'),
    on: { keydown: onTagKey, change: takeTag, blur: takeTag },
  })
  const kept = h('p', { class: 'kept', role: 'status' })
  const save = h('button', { type: 'submit', class: 'main' }, t('save'))
  const dropHint = h('p', { class: 'drop-hint', 'aria-hidden': 'true' }, t('drop_here'))
  const form = h(
    'form',
    { class: 'write', hidden: true, on: { submit: onSave, keydown: onKey } },
    h('h1', { class: 'visually-hidden' }, t(dreamId ? 'edit_title' : 'write')),
    title,
    editor.element,
    h(
      'div',
      { class: 'facts' },
      h('label', null, h('span', null, t('when')), when),
      h('label', null, h('span', null, t('lucidity')), lucidity),
      h('div', { class: 'field' }, h('span', null, t('mood')), moods),
      h(
        'div',
        { class: 'field' },
        h('span', null, t('tags')),
        h('div', { class: 'tag-row' }, tagList, tagField),
        h(
          'datalist',
          { id: 'known-tags' },
          journal
            .tags()
            .slice(0, 50)
            .map((value) => h('option', { value })),
        ),
      ),
    ),
    kept,
    h(
      'div',
      { class: 'bar' },
      iconButton('photo', t('add_photo'), () => editor.files.click()),
      iconButton('camera', t('take_photo'), () => editor.camera.click(), { class: 'plain touch-only' }),
      h('button', { type: 'button', class: 'plain', on: { click: discard } }, t(dreamId ? 'cancel' : 'discard')),
      save,
    ),
    editor.files,
    editor.camera,
    dropHint,
  )
  const element = h('main', { id: 'content', tabindex: '-1', 'aria-busy': 'true' }, form)
  const view = { element, title: t(dreamId ? 'edit_title' : 'write'), close }

  editor.listen(form)
  addEventListener('pagehide', flush)
  document.addEventListener('visibilitychange', flush)
  open()
  return view

  async function open() {
    const found = dreamId ? await openChange() : await openNew()
    if (ended) return
    if (!found) return app.redirect('#/')
    draft = found
    const { fields: given } = draft
    title.value = given.title
    when.value = given.dreamed_at.slice(0, 16)
    lucidity.value = given.lucidity === null ? '' : String(given.lucidity)
    showMoods(given.mood)
    showTags()
    await photos.load(draft.blocks.flatMap((block) => ('photo' in block ? [block.photo] : [])))
    form.hidden = false
    editor.show(draft.blocks)
    element.removeAttribute('aria-busy')
    const focused = document.activeElement
    if (!focused || focused === document.body || focused === element) (title.value || dreamId ? editor : title).focus()
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
    const blocks = blocksOf(content, images, (image) => ({ image }))
    return { key: draftOf(dreamId), user, dreamId, fields, blocks, changedAt: Date.now() }
  }

  function close() {
    ended = true
    editor.close()
    flush()
    // What was chosen a moment ago belongs to the draft too.
    editor.taken().then(flush).then(leave)
    removeEventListener('pagehide', flush)
    document.removeEventListener('visibilitychange', flush)
  }

  /** @param {KeyboardEvent} event */
  function onKey(event) {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) form.requestSubmit()
    // Enter in a line of its own is not "save": half a dream would be sent.
    else if (event.key === 'Enter' && event.target === title) (event.preventDefault(), editor.focus())
  }

  // ---- the other fields

  /** @param {string | null} chosen */
  function showMoods(chosen) {
    const known = /** @type {readonly string[]} */ (MOODS)
    const offered = chosen && !known.includes(chosen) ? [...known, chosen] : known
    moods.replaceChildren(
      ...offered.map((mood) => {
        const input = h('input', {
          type: 'radio',
          name: 'mood',
          value: mood,
          '.checked': mood === chosen,
          on: { change },
        })
        // A second click takes the choice back.
        input.addEventListener('click', () => {
          if (draft.fields.mood === mood) ((input.checked = false), change())
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
    if (event.key === 'Enter' || event.key === ',') (event.preventDefault(), takeTag())
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
    draft.fields = {
      title: title.value,
      dreamed_at: moment,
      mood,
      lucidity: lucidity.value ? Number(lucidity.value) : null,
      tags,
    }
    draft.blocks = editor.blocks
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
      if (!timer) kept.textContent = t('draft_saved')
    } catch {
      showDraftError()
    }
  }

  function showDraftError() {
    kept.textContent = t('draft_not_saved')
  }

  /** What the timer would do, now. */
  function flush() {
    if (timer) keep()
  }

  async function discard() {
    await editor.taken()
    clearTimeout(timer)
    timer = undefined
    const given_up = structuredClone(draft)
    await store.dropDraft(draft.key)
    app.redirect(dreamId ? `#/dream/${dreamId}` : '#/')
    if (!touched && !dreamId && isEmpty(given_up)) return
    const undo = async () => {
      await store.keepDraft(given_up)
      app.go(dreamId ? `#/edit/${dreamId}` : `#/write/${given_up.key}`)
    }
    if (touched || !dreamId) toast(t('discarded'), { label: t('undo'), act: undo, seconds: UNDO })
  }

  /** @param {Event} event */
  async function onSave(event) {
    event.preventDefault()
    await editor.taken()
    if (ended || saving) return // Ctrl+Enter, twice
    takeTag()
    read()
    const { content, photos: placed, images } = flatten(editor.blocks)
    if (!title.value.trim() && !content.trim() && !placed.length && !images.length) {
      toast(t('nothing_written'))
      return editor.focus()
    }
    if (length(content) > MOST) return toast(t('too_long', { n: length(content), most: MOST }))
    clearTimeout(timer)
    timer = undefined
    saving = true
    try {
      const written = { ...draft.fields, content }
      if (before) return await saveChange(before, written, placed, images)
      const key = await outbox.add({ kind: 'create', fields: written, photos: placed, notBefore: 0 }, draft.key)
      app.redirect(`#/dream/${journal.localId(key)}`)
    } catch {
      // The device is out of space; the draft stays as it is.
      saving = false
      showDraftError()
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
      await outbox.add(
        { kind: 'change', dreamId, fields: written, positions, photos: placed, remove: [], notBefore: 0 },
        draft.key,
      ),
    ]
    // Only this cannot be taken back once it is done, so it waits.
    const notBefore = Date.now() + 1000 * UNDO
    if (remove.length) {
      keys.push(await outbox.add({ kind: 'change', dreamId, fields: {}, positions: [], photos: [], remove, notBefore }))
    }
    app.redirect(`#/dream/${dreamId}`)
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
    toast(t('saved'), { label: t('undo'), act: undo, seconds: UNDO })
  }
}

/** @param {Draft} draft */
const isEmpty = ({ fields, blocks }) => !fields.title && blocks.length === 1 && !textOf(blocks[0])

/** RFC 3339 by this device's clock, with its offset. @param {Date} date */
function local(date) {
  const pad = (/** @type {number} */ n) => String(Math.trunc(Math.abs(n))).padStart(2, '0')
  const east = -date.getTimezoneOffset()
  const shifted = new Date(date.getTime() + 60_000 * east).toISOString().slice(0, 19)
  return `${shifted}${east < 0 ? '-' : '+'}${pad(east / 60)}:${pad(east % 60)}`
}
