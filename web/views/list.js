// @ts-check
// The journal: an endless list, newest night first, with search, tags and the calendar.

import { h, icon, iconButton, keepFocus, setStyle } from '../dom.js'
import { journal } from '../journal.js'
import { ManyDreamsWebSocketClient } from '../client/many_dreams.js'
import { outbox } from '../outbox.js'
import { session } from '../session.js'
import * as store from '../store.js'
import { summary } from '../text.js'
import { dayName, failureText, moodName, shortDate, t } from '../words.js'
import { Calendar } from './calendar.js'
import { urlFor } from './picture.js'

/** @typedef {import('../types').ShownDream} ShownDream */

const PAGE = 20
const SEARCH_DELAY = 250 // milliseconds after the last key
const MAX_WATCHED = 200 // dreams that receive live updates

/**
 * @param {URLSearchParams} parameters q, tag, night
 * @param {import('../app').App} app @returns {import('../types').View}
 */
export function listView(parameters, app) {
  const tag = parameters.get('tag') ?? ''
  const night = parameters.get('night') ?? ''
  /** @type {import('../journal').Query} */
  let query = { q: parameters.get('q') ?? '', tag, from: night, to: night }
  /** @type {string[]} */
  let ids = []
  /** @type {string | null} */
  let cursor = null
  let loading = new AbortController()
  let loaded = false
  let asking = false // loading the next page; disabling the button instead would lose the focus
  /** @type {Map<string, HTMLElement>} */
  const cards = new Map()
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let searchTimer

  const live = new ManyDreamsWebSocketClient(() => session.token(), onUpdate, {
    onProgress: ({ dream_id, image, revision }) => journal.putImage(dream_id, image, revision),
    onDeleted: ({ dream_id }) => journal.remove(dream_id),
    onError: ({ code, dream_id }) => code === 'not_found' && dream_id && journal.remove(dream_id),
    onStatus: (status, { code }) => {
      if (status === 'connected' && !offline.hidden) loadFirst() // the server can be reached again
      if (status === 'closed' && code === 4401)
        session.renew().then(
          () => live.connect(),
          () => {},
        )
    },
  })

  const field = h('input', {
    type: 'search',
    placeholder: t('search'),
    'aria-label': t('search'),
    value: query.q,
    enterkeyhint: 'search',
    on: { input: onInput },
  })
  const calendar = new Calendar(night, (day) => app.go(day ? `#/?night=${day}` : '#/'))
  const filter = h('p', { class: 'filter', hidden: true })
  const offline = h('p', { class: 'notice', hidden: true }, t('offline'))
  const drafts = h('ul', { class: 'cards drafts', 'aria-label': t('drafts') })
  const list = h('ol', { class: 'cards', 'aria-label': t('journal'), 'aria-busy': 'true' })
  const empty = h('div', { class: 'empty', hidden: true })
  const more = h(
    'button',
    { type: 'button', class: 'more', hidden: true, on: { click: () => loadNext() } },
    t('load_more'),
  )
  const element = h(
    'main',
    { id: 'content', class: 'list', tabindex: '-1' },
    h('h1', { class: 'visually-hidden' }, t('journal')),
    h('div', { class: 'tools' }, h('search', null, icon('search'), field), calendar.button),
    calendar.element,
    h('div', { class: 'results' }, filter, offline, drafts, list, empty, more),
    h('a', { class: 'button main write', href: '#/write' }, icon('add'), t('write')),
  )

  const watcher = new IntersectionObserver((seen) => seen.some((each) => each.isIntersecting) && loadNext(), {
    rootMargin: '800px',
  })
  const show = () => keepFocus(element, showNow)
  const onDream = (/** @type {Event} */ event) => onDreamChanged(/** @type {CustomEvent} */ (event).detail)
  // The server does not announce new dreams, and another device may have added some.
  const onLook = () => element.isConnected && document.visibilityState === 'visible' && loadFirst()
  journal.addEventListener('dream', onDream)
  journal.addEventListener('list', reload)
  outbox.addEventListener('change', show)
  addEventListener('online', onLook)
  document.addEventListener('visibilitychange', onLook)
  watcher.observe(more)
  showFilter()
  start()
  return { element, title: t('journal'), close, pause, resume }

  async function start() {
    showDrafts()
    // Show the saved dreams at once, until the server answers.
    const kept = await journal.cachedIds(query)
    if (!loaded && kept.length) {
      ids = kept.slice(0, PAGE)
      show()
    }
    await loadFirst()
    if (element.isConnected) live.connect() // the user may have left the view meanwhile
  }

  function resume() {
    showDrafts()
    calendar.show()
    loadFirst()
    live.connect()
  }

  function pause() {
    live.close()
  }

  function close() {
    loading.abort()
    calendar.close()
    live.close()
    watcher.disconnect()
    journal.removeEventListener('dream', onDream)
    journal.removeEventListener('list', reload)
    outbox.removeEventListener('change', show)
    removeEventListener('online', onLook)
    document.removeEventListener('visibilitychange', onLook)
  }

  /** Load the newest page; the pages below stay. */
  async function loadFirst() {
    loading.abort()
    loading = new AbortController()
    const { signal } = loading
    try {
      const page = await journal.page(query, null, PAGE, signal)
      if (signal.aborted) return
      const before = new Set(ids)
      const overlaps = loaded && page.ids.some((id) => before.has(id)) && ids.length > page.ids.length
      if (overlaps) ids = [...page.ids, ...ids.slice(ids.findIndex((id) => id === page.ids.at(-1)) + 1)]
      else ({ ids, cursor } = page)
      loaded = true
      offline.hidden = !page.offline
      show()
    } catch (error) {
      if (!signal.aborted) showEmpty(app.errorText(error), t('retry'), loadFirst)
    }
  }

  async function loadNext() {
    if (!cursor || asking) return
    const { signal } = loading
    asking = true
    more.textContent = t('loading')
    let succeeded = false
    try {
      const page = await journal.page(query, cursor, PAGE, signal)
      if (signal.aborted) return
      cursor = page.offline ? cursor : page.cursor
      ids = [...ids, ...page.ids.filter((id) => !ids.includes(id))]
      show()
      succeeded = !page.offline
    } catch {
      // The button stays, for another attempt.
    } finally {
      asking = false
      more.textContent = t('load_more')
    }
    if (!succeeded) return // observing again would load again at once, in an endless loop
    // The button may still be in the viewport.
    watcher.unobserve(more)
    watcher.observe(more)
  }

  function onInput() {
    clearTimeout(searchTimer)
    searchTimer = setTimeout(() => {
      query = { ...query, q: field.value.trim() }
      loaded = false // the list shows another search
      app.replaceUrl(hashOf(query))
      showFilter()
      loadFirst()
    }, SEARCH_DELAY)
  }

  /** @param {{dream_id: string, revision: number}} message */
  function onUpdate({ dream_id, revision }) {
    journal.catchUp(dream_id, revision)
  }

  /** @param {string} id */
  function onDreamChanged(id) {
    const lasting = journal.currentId(id)
    if (lasting !== id && cards.has(id) && !ids.includes(lasting)) ids = [lasting, ...ids]
    if (lasting !== id || !cards.has(id)) return show()
    const dream = journal.shown(id)
    if (dream) fill(/** @type {HTMLElement} */ (cards.get(id)), dream)
    else show()
  }

  /** The list may have changed on the server. */
  function reload() {
    calendar.show()
    if (loaded) loadFirst()
  }

  function showNow() {
    const waiting = journal.unsentIds(query)
    const shown = [...waiting, ...ids.filter((id) => !waiting.includes(id))]
    const dreams = shown.map((id) => journal.shown(id)).filter((dream) => dream !== null)
    const nodes = dreams.map((dream) => {
      const card = cards.get(dream.id) ?? h('li')
      cards.set(dream.id, card)
      fill(card, dream)
      return card
    })
    const same = nodes.length === list.children.length && nodes.every((node, index) => list.children[index] === node)
    if (!same) list.replaceChildren(...nodes)
    list.setAttribute('aria-busy', String(!loaded))
    more.hidden = !cursor
    if (dreams.length || !loaded) empty.hidden = true
    else if (query.q || query.tag || query.from) showEmpty(t('nothing_found'), t('show_all'), () => app.go('#/'))
    else showEmpty(t('no_dreams'), '', () => {}, t('no_dreams_hint'))
    const theirs = dreams.map(({ id }) => id).filter((id) => !id.startsWith('local-'))
    live.subscribe(theirs.slice(0, MAX_WATCHED))
  }

  /** @param {string} text @param {string} label @param {() => void} click @param {string} [hint] */
  function showEmpty(text, label, click, hint = '') {
    empty.hidden = false
    const content = [
      h('p', { class: 'big' }, text),
      hint ? h('p', null, hint) : '',
      label ? h('button', { type: 'button', on: { click } }, label) : '',
    ]
    keepFocus(element, () => empty.replaceChildren(...content))
  }

  function showFilter() {
    const words = [query.tag && `#${query.tag}`, night && t('night_of', { date: dayName(night) })].filter(Boolean)
    filter.hidden = words.length === 0
    filter.replaceChildren(
      h('span', { class: 'chip' }, words.join(' · ')),
      iconButton('close', t('show_all'), () => app.go('#/')),
    )
  }

  async function showDrafts() {
    const user = session.user?.id ?? ''
    const written = (await store.listDrafts(user)).filter(({ dreamId }) => dreamId === null)
    written.sort((a, b) => b.changedAt - a.changedAt)
    drafts.replaceChildren(
      ...written.map(({ fields, blocks, key }) => {
        const content = blocks.map((block) => ('text' in block ? block.text : '\n')).join('')
        const [heading, excerpt] = summary(fields.title, content)
        const link = h('a', { class: 'card', href: `#/write/${key}` })
        link.append(
          h(
            'div',
            { class: 'card-text' },
            h('p', { class: 'when' }, t('draft')),
            h('h2', null, heading || t('untitled')),
            excerpt && h('p', { class: 'excerpt' }, excerpt),
          ),
        )
        return h('li', null, link)
      }),
    )
  }
}

/** @param {import('../journal').Query} query */
function hashOf({ q, tag, from }) {
  const parameters = new URLSearchParams()
  if (q) parameters.set('q', q)
  if (tag) parameters.set('tag', tag)
  if (from) parameters.set('night', from)
  return `#/${parameters.size ? `?${parameters}` : ''}`
}

/** @param {HTMLElement} card @param {ShownDream} dream */
function fill(card, dream) {
  const { id, title, content, dreamed_at, mood, tags, images, pending } = dream
  const state = JSON.stringify([
    id,
    title,
    content.slice(0, 400),
    dreamed_at,
    mood,
    tags,
    images,
    pending?.problem,
    !pending,
  ])
  if (card.dataset.state === state) return
  card.dataset.state = state
  const focused = card.contains(document.activeElement)
  const [heading, excerpt] = summary(title, content)
  const about = [mood && moodName(mood), ...tags.map((tag) => `#${tag}`)].filter(Boolean).join(' · ')
  const failed = images.find(({ error }) => error)?.error
  const problem = pending?.problem
    ? t('not_sent', { detail: pending.problem.detail })
    : failed
      ? failureText(failed)
      : ''
  card.replaceChildren(
    h(
      'a',
      { class: 'card', href: `#/dream/${id}` },
      h(
        'div',
        { class: 'card-text' },
        h('p', { class: 'when' }, h('time', { datetime: dreamed_at }, shortDate(dreamed_at))),
        h('h2', null, heading || t('untitled')),
        excerpt && h('p', { class: 'excerpt' }, excerpt),
        about && h('p', { class: 'about' }, about),
        problem ? h('p', { class: 'problem' }, problem) : pending && h('p', { class: 'about' }, t('uploading')),
      ),
      images.length > 0 && thumbnail(images),
    ),
  )
  if (focused) card.querySelector('a')?.focus({ preventScroll: true })
}

/** @param {import('../types').ShownImage[]} images */
function thumbnail(images) {
  const image = images.find(({ status }) => status === 'completed') ?? images[0]
  const waits = image.status === 'processing' || image.status === 'uploading'
  const box = h('div', { class: 'thumbnail', 'data-status': image.status })
  const url = image.status === 'completed' ? urlFor(image, 320) : image.preview
  if (image.placeholder) setStyle(box, '--placeholder', `url("${image.placeholder}")`)
  if (url) {
    const picture = h('img', { src: url, alt: '', loading: 'lazy', decoding: 'async' })
    picture.addEventListener('error', () => picture.remove())
    box.append(picture)
  }
  if (waits) box.append(h('span', { class: 'pulse', title: t('processing') }))
  if (image.status === 'failed') box.append(icon('photo'))
  if (images.length > 1) box.append(h('span', { class: 'count' }, images.length))
  return box
}
