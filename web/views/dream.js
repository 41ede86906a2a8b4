// @ts-check
// The view of one dream: its text and pictures, updated live.

import { call } from '../api.js'
import { h, icon, iconButton, keepFocus, refill, toast } from '../dom.js'
import { DreamImageWebSocketClient } from '../client/dreamlog.js'
import { journal } from '../journal.js'
import { UNDO_SECONDS, outbox } from '../outbox.js'
import { session } from '../session.js'
import { formatBytes, split } from '../text.js'
import { clock, failureText, locale, longDate, moodName, t } from '../words.js'
import { showLarge } from './large.js'
import { Picture } from './picture.js'

/**
 * @typedef {import('../types').ShownDream} ShownDream
 * @typedef {import('../types').ShownImage} ShownImage
 */

/** @param {string} id @param {import('../app').App} app @returns {import('../types').View} */
export function dreamView(id, app) {
  /** @type {Map<string, Picture>} */
  const pictures = new Map()
  /** @type {Map<string, string>} picture -> the last announced status */
  const announced = new Map()
  /** @type {DreamImageWebSocketClient | null} */
  let client = null
  /** @type {ShownDream | null} */
  let dream = null
  /** @type {Promise<void> | null} */
  let renewal = null
  let layoutShown = ''
  let deleting = false

  const head = h('header', { class: 'dream-head' })
  const banner = h('div', { class: 'banner', hidden: true })
  const body = h('div', { class: 'dream-text' })
  const foot = h('footer', { class: 'row dream-foot' })
  const article = h('article', { class: 'dream', hidden: true }, head, banner, body, foot)
  const element = h('main', { id: 'content', tabindex: '-1', 'aria-busy': 'true' }, article)
  const view = { element, title: '', close, resume }

  const show = () => keepFocus(element, showNow)
  const onDream = (/** @type {Event} */ event) => {
    const changed = /** @type {CustomEvent} */ (event).detail
    if (changed === id || journal.currentId(changed) === id) show()
  }
  journal.addEventListener('dream', onDream)
  outbox.addEventListener('change', show)
  load()
  return view

  async function load() {
    if (await journal.cached(id)) show()
    try {
      if (!(await journal.get(id)) && !deleting) return showMissing(t(dream ? 'deleted_elsewhere' : 'no_such_dream'))
      show()
    } catch {
      if (!dream) showMissing(t('not_here'))
    }
    connect()
  }

  function resume() {
    connect()
    journal.get(id).catch(() => {}) // offline, the view keeps what it shows
  }

  function close() {
    client?.close()
    client = null
    journal.removeEventListener('dream', onDream)
    outbox.removeEventListener('change', show)
    for (const picture of pictures.values()) picture.close()
  }

  /** Receive changes while the dream is open. */
  function connect() {
    if (client || !element.isConnected || !dream || dream.revision === 0) return
    client = new DreamImageWebSocketClient(dream.id, () => session.token(), onUpdate, {
      onProgress: (message) => journal.putImage(id, message.image, message.revision),
      onDeleted: () => {
        journal.remove(id)
        showMissing(t('deleted_elsewhere'))
      },
      onStatus: (status, { code }) => {
        if (status === 'connected') for (const picture of pictures.values()) picture.reconnected()
        if (status === 'closed' && code === 4403) load() // deleted while disconnected
        if (status === 'closed' && code === 4401)
          session.renew().then(
            () => client?.connect(),
            () => {},
          )
      },
    })
    client.connect()
  }

  /** @param {{revision: number}} message */
  function onUpdate({ revision }) {
    journal.catchUp(id, revision)
  }

  function showNow() {
    const lasting = journal.currentId(id)
    if (lasting !== id) {
      id = lasting
      app.replaceUrl(`#/dream/${id}`)
    }
    const now = journal.shown(id)
    if (!now) return
    dream = now
    article.hidden = false
    element.removeAttribute('aria-busy')
    view.title = dream.title || t('untitled')
    app.updateTitle(view)
    showHead(dream)
    showBanner(dream)
    showBody(dream)
    showFoot(dream)
    announce(dream)
    connect()
  }

  /** @param {string} why */
  function showMissing(why) {
    close()
    article.hidden = false
    element.removeAttribute('aria-busy')
    const home = h('a', { class: 'button', href: '#/' }, t('journal'))
    keepFocus(element, () => article.replaceChildren(h('div', { class: 'empty' }, h('h1', null, why), home)))
  }

  /** @param {ShownDream} dream */
  function showHead({ dreamed_at, title, mood, lucidity, tags }) {
    refill(head, [dreamed_at, title, mood, lucidity, tags], () => [
      h('p', { class: 'when' }, h('time', { datetime: dreamed_at }, `${longDate(dreamed_at)} · ${clock(dreamed_at)}`)),
      h('h1', null, title || t('untitled')),
      h(
        'p',
        { class: 'facts' },
        mood && h('span', { class: 'chip' }, moodName(mood)),
        lucidity !== null && lucidity > 0 && h('span', { class: 'chip' }, t('lucid', { n: lucidity })),
        tags.map((tag) => h('a', { class: 'chip tag', href: `#/?tag=${encodeURIComponent(tag)}` }, `#${tag}`)),
      ),
    ])
  }

  /** Show the progress of sending and processing. @param {ShownDream} dream */
  function showBanner(dream) {
    const { pending, images } = dream
    const open = images.filter(({ status }) => status === 'processing').length
    banner.hidden = !pending && open === 0
    if (pending?.problem) showProblem(pending, pending.problem)
    else if (pending) showSending(pending)
    else if (open) {
      const done = images.length - open
      refill(banner, 'processing', () => [bar()])
      setBar(banner, t('processing_count', { done, n: images.length }), done, images.length)
    }
  }

  /** @param {import('../types').Entry} entry @param {import('../types').Problem} problem */
  function showProblem(entry, problem) {
    const retry = () => outbox.retry(entry)
    refill(banner, [entry, problem], () => [
      h('p', { role: 'alert' }, t('not_sent', { detail: problem.detail })),
      h('button', { type: 'button', on: { click: retry } }, icon('retry'), t('retry')),
      h('button', { type: 'button', on: { click: editAgain } }, icon('edit'), t('back_to_draft')),
    ])
  }

  /** @param {import('../types').Entry} entry */
  function showSending(entry) {
    const { sent, total } = outbox.progress.get(entry.key) ?? { sent: 0, total: 0 }
    const waits = outbox.failing || !navigator.onLine
    const bytes = { sent: formatBytes(sent, locale), total: formatBytes(total, locale) }
    const text = total ? t('uploading_bytes', bytes) : t(waits ? 'waiting_to_send' : 'sending')
    const label = t(total ? 'stop_upload' : 'back_to_draft')
    refill(banner, [entry.key, label], () => [bar(), iconButton('edit', label, editAgain)])
    setBar(banner, text, sent, total)
  }

  function editAgain() {
    if (dream?.pending) app.editAgain(dream.pending, dream)
  }

  /** @param {ShownDream} dream */
  function showBody(dream) {
    const { content, images } = dream
    const layout = JSON.stringify([content, images.map(({ key, position }) => [key, position])])
    if (layout !== layoutShown) {
      layoutShown = layout
      const { pieces, groups } = split(content, images)
      /** @type {(HTMLElement | null)[]} */
      const nodes = [paragraph(pieces[0])]
      groups.forEach((group, index) => {
        const figures = group.map(({ key }) => picture(key).element)
        nodes.push(
          figures.length > 1 ? h('div', { class: 'gallery' }, figures) : figures[0],
          paragraph(pieces[index + 1]),
        )
      })
      body.replaceChildren(...nodes.filter((node) => node !== null))
    }
    images.forEach((image, index) => picture(image.key).update(image, index + 1, images.length))
  }

  /** @param {string} key */
  function picture(key) {
    const known = pictures.get(key)
    if (known) return known
    const made = new Picture({ open, retry, remove, renew })
    pictures.set(key, made)
    return made
  }

  /** Fetch new URLs for all pictures. */
  function renew() {
    const done = () => {
      renewal = null
      show()
    }
    return (renewal ??= journal.get(id).then(done, done))
  }

  /** @param {ShownImage} image */
  function open(image) {
    const finished = /** @type {ShownDream} */ (dream).images.filter(({ status }) => status === 'completed')
    showLarge(finished, image.key, async ({ key }) => {
      await renew()
      return dream?.images.find((image) => image.key === key)
    })
  }

  /** @param {ShownImage} image */
  async function retry(image) {
    await attempt(async () => journal.put(await call('POST', `/api/dreams/${id}/images/${image.id}/retry`)))
  }

  /** @param {ShownImage} image */
  async function remove(image) {
    await attempt(async () => {
      await call('DELETE', `/api/dreams/${id}/images/${image.id}`)
      await journal.get(id)
    })
  }

  /** @param {() => Promise<unknown>} work */
  async function attempt(work) {
    try {
      await work()
    } catch (error) {
      toast(app.errorText(error))
    }
    show()
  }

  /** @param {ShownDream} dream */
  function showFoot(dream) {
    refill(foot, dream.revision ? dream.id : '', () => [
      dream.revision > 0 && h('a', { class: 'button', href: `#/edit/${dream.id}` }, icon('edit'), t('edit')),
      dream.revision > 0 && h('button', { type: 'button', on: { click: deleteDream } }, icon('remove'), t('delete')),
    ])
  }

  /** Delete the dream, with time to undo. */
  async function deleteDream() {
    deleting = true
    const key = await outbox.add({ kind: 'delete', dreamId: id, notBefore: Date.now() + 1000 * UNDO_SECONDS })
    app.go('#/')
    const undo = () => {
      const entry = outbox.find(key)
      if (entry) outbox.withdraw(entry)
    }
    toast(t('deleted'), { label: t('undo'), act: undo, seconds: UNDO_SECONDS })
  }

  /** Announce each picture that has completed or failed. @param {ShownDream} dream */
  function announce({ images }) {
    const sentences = images.flatMap((image, index) => {
      const before = announced.get(image.key)
      announced.set(image.key, image.status)
      if (!before || before === image.status) return []
      if (image.status === 'completed') return [t('picture_ready', { n: index + 1 })]
      if (image.status !== 'failed' || !image.error) return []
      return [t('picture_failed', { n: index + 1, detail: failureText(image.error) })]
    })
    const all = images.length > 1 && images.every(({ status }) => status === 'completed')
    if (sentences.length) app.announce(all ? `${sentences.join(' ')} ${t('pictures_ready')}` : sentences.join(' '))
  }
}

/** A paragraph, without the line breaks next to a picture. @param {string} text */
function paragraph(text) {
  const shown = text.replace(/^\n+|\n+$/g, '')
  return shown.trim() ? h('p', { class: 'piece' }, shown) : null
}

const bar = () => h('label', { class: 'progress' }, ' ', h('progress', null))

/** @param {HTMLElement} banner @param {string} text @param {number} done @param {number} total */
function setBar(banner, text, done, total) {
  const progress = /** @type {HTMLProgressElement} */ (banner.querySelector('progress'))
  const label = /** @type {Text} */ (progress.previousSibling)
  if (label.data !== text) label.data = text
  progress.max = total || 1
  progress.value = done
}
