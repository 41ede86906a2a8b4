// @ts-check
// The form for a new dream or a change of one. Every change is saved as a draft on this device.

import { h, iconButton, toast } from '../dom.js'
import { journal } from '../journal.js'
import { randomKey, tryLock } from '../locks.js'
import { UNDO_SECONDS, outbox } from '../outbox.js'
import * as photos from '../photos.js'
import { limits } from '../server.js'
import { session } from '../session.js'
import * as store from '../store.js'
import { blocksOf, flatten, length } from '../text.js'
import { MOODS, moodName, t } from '../words.js'
import { Editor, textOf } from './editor.js'

/**
 * @typedef {import('../types').Draft} Draft
 * @typedef {import('../types').Dream} Dream
 */

const SAVE_DELAY = 300 // milliseconds after the last change
const MAX_KNOWN_TAGS = 50 // tags that the field offers

/** The key of the draft that changes a dream. @param {string} dreamId */
export const draftOf = (dreamId) => `edit-${session.user?.id}-${dreamId}`

/**
 * @param {{draftKey: string, dreamId: string}} what
 *   an empty `draftKey` opens the last draft or a new one; an empty `dreamId` means a new dream
 * @param {import('../app').App} app @returns {import('../types').View}
 */
export function writeView({ draftKey, dreamId }, app) {
  const user = /** @type {import('../types').User} */ (session.user).id
  /** @type {Dream | null} the dream before the change */
  let original = null
  /** @type {Draft} */
  let draft
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer
  let releaseDraft = () => {}
  let closed = false
  let touched = false
  let saving = false

  const editor = new Editor(user, { onChange: change, onStorageFull: showDraftError, undoSeconds: UNDO_SECONDS })
  const title = h('input', {
    class: 'title',
    maxlength: limits().title_length,
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
    maxlength: limits().tag_length,
    list: 'known-tags',
    enterkeyhint: 'enter',
    'aria-label': t('tags'),
    on: { keydown: onTagKey, change: addTags, blur: addTags },
  })
  const draftStatus = h('p', { class: 'draft-status', role: 'status' })
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
            .slice(0, MAX_KNOWN_TAGS)
            .map((value) => h('option', { value })),
        ),
      ),
    ),
    draftStatus,
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
    if (closed) return
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

  /** The last draft that no other tab has open, or a new one. @returns {Promise<Draft>} */
  async function openNew() {
    const drafts = (await store.listDrafts(user)).filter((each) => each.dreamId === null)
    drafts.sort((a, b) => Number(b.key === draftKey) - Number(a.key === draftKey) || b.changedAt - a.changedAt)
    for (const each of drafts) {
      const free = await tryLock(`dreamlog draft ${each.key}`)
      if (!free) continue
      releaseDraft = free
      return each
    }
    const key = `new-${randomKey()}`
    releaseDraft = (await tryLock(`dreamlog draft ${key}`)) ?? releaseDraft
    const nothing = { title: '', dreamed_at: localTime(new Date()), mood: null, lucidity: null, tags: [] }
    return { key, user, dreamId: null, fields: nothing, blocks: [{ text: '' }], changedAt: Date.now() }
  }

  /** @returns {Promise<Draft | null>} */
  async function openChange() {
    const shown = await journal.get(dreamId).catch(() => journal.cached(dreamId))
    if (!shown) return null
    original = /** @type {Dream} */ ({ ...shown, images: shown.images.filter(({ id }) => id !== 0) })
    const written = await store.getDraft(draftOf(dreamId))
    if (written) return written
    const { content, images, title, dreamed_at, mood, lucidity, tags } = original
    const fields = { title, dreamed_at, mood, lucidity, tags }
    const blocks = blocksOf(content, images, (image) => ({ image }))
    return { key: draftOf(dreamId), user, dreamId, fields, blocks, changedAt: Date.now() }
  }

  function close() {
    closed = true
    editor.close()
    flush()
    // Include pictures that are still being inserted.
    editor.settled().then(flush).then(releaseDraft)
    removeEventListener('pagehide', flush)
    document.removeEventListener('visibilitychange', flush)
  }

  /** @param {KeyboardEvent} event */
  function onKey(event) {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) form.requestSubmit()
    // Enter in the title must not send an unfinished dream.
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
        // A second click clears the choice.
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

  function addTags() {
    const given = tagField.value
      .split(/[,，、]/)
      .map((tag) => tag.trim().replace(/^#/, '').slice(0, limits().tag_length))
    tagField.value = ''
    const added = given.filter((tag) => tag && !draft.fields.tags.includes(tag))
    if (!added.length) return
    const tags = [...draft.fields.tags, ...new Set(added)]
    const most = limits().tags ?? Infinity
    if (tags.length > most) toast(t('too_many_tags', { n: most }))
    draft.fields.tags = tags.slice(0, most)
    showTags()
    change()
  }

  /** @param {KeyboardEvent} event */
  function onTagKey(event) {
    if (event.isComposing || event.ctrlKey || event.metaKey) return
    if (event.key === 'Enter' || event.key === ',') (event.preventDefault(), addTags())
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
    // An unchanged time keeps its UTC offset.
    const moment = when.value === dreamed_at.slice(0, 16) || !when.value ? dreamed_at : localTime(new Date(when.value))
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
    draftStatus.textContent = t('saving_draft')
    timer = setTimeout(saveDraft, SAVE_DELAY)
  }

  async function saveDraft() {
    clearTimeout(timer)
    timer = undefined
    try {
      // The editor changes its blocks in place, so save a copy.
      await store.saveDraft(structuredClone(draft))
      if (!timer) draftStatus.textContent = t('draft_saved')
    } catch {
      showDraftError()
    }
  }

  function showDraftError() {
    draftStatus.textContent = t('draft_not_saved')
  }

  /** Save a pending change now. */
  function flush() {
    if (timer) saveDraft()
  }

  async function discard() {
    await editor.settled()
    clearTimeout(timer)
    timer = undefined
    const discarded = structuredClone(draft)
    await store.deleteDraft(draft.key)
    app.redirect(dreamId ? `#/dream/${dreamId}` : '#/')
    if (!touched && !dreamId && isEmpty(discarded)) return
    const undo = async () => {
      await store.saveDraft(discarded)
      app.go(dreamId ? `#/edit/${dreamId}` : `#/write/${discarded.key}`)
    }
    if (touched || !dreamId) toast(t('discarded'), { label: t('undo'), act: undo, seconds: UNDO_SECONDS })
  }

  /** @param {Event} event */
  async function onSave(event) {
    event.preventDefault()
    await editor.settled()
    if (closed || saving) return // after a second Ctrl+Enter
    addTags()
    read()
    const { content, photos: placed, images } = flatten(editor.blocks)
    if (!title.value.trim() && !content.trim() && !placed.length && !images.length) {
      toast(t('nothing_written'))
      return editor.focus()
    }
    const most = limits().content_length ?? Infinity
    if (length(content) > most) return toast(t('too_long', { n: length(content), most }))
    clearTimeout(timer)
    timer = undefined
    saving = true
    try {
      const written = { ...draft.fields, content }
      if (original) return await saveChange(original, written, placed, images)
      const key = await outbox.add({ kind: 'create', fields: written, photos: placed, notBefore: 0 }, draft.key)
      app.redirect(`#/dream/${journal.localId(key)}`)
    } catch {
      // The device is out of space; the draft stays as it is.
      saving = false
      showDraftError()
    }
  }

  /**
   * @param {Dream} original @param {import('../types').DreamFields} written
   * @param {import('../types').PlacedPhoto[]} placed @param {{id: number, position: number}[]} positions
   */
  async function saveChange(original, written, placed, positions) {
    const staying = new Set(positions.map(({ id }) => id))
    const remove = original.images.map(({ id }) => id).filter((id) => !staying.has(id))
    const keys = [
      await outbox.add(
        { kind: 'change', dreamId, fields: written, positions, photos: placed, remove: [], notBefore: 0 },
        draft.key,
      ),
    ]
    // Only a sent removal cannot be undone, so it waits.
    const notBefore = Date.now() + 1000 * UNDO_SECONDS
    if (remove.length) {
      keys.push(await outbox.add({ kind: 'change', dreamId, fields: {}, positions: [], photos: [], remove, notBefore }))
    }
    app.redirect(`#/dream/${dreamId}`)
    const undo = async () => {
      for (const entry of keys.map((key) => outbox.find(key))) if (entry) await outbox.withdraw(entry)
      const { title, content, dreamed_at, mood, lucidity, tags, images } = original
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
    toast(t('saved'), { label: t('undo'), act: undo, seconds: UNDO_SECONDS })
  }
}

/** @param {Draft} draft */
const isEmpty = ({ fields, blocks }) => !fields.title && blocks.length === 1 && !textOf(blocks[0])

/** RFC 3339 in the time zone of this device. @param {Date} date */
function localTime(date) {
  const pad = (/** @type {number} */ n) => String(Math.trunc(Math.abs(n))).padStart(2, '0')
  const east = -date.getTimezoneOffset()
  const shifted = new Date(date.getTime() + 60_000 * east).toISOString().slice(0, 19)
  return `${shifted}${east < 0 ? '-' : '+'}${pad(east / 60)}:${pad(east % 60)}`
}
