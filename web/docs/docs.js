// @ts-check
// The documentation: made in the browser from the two contracts that the server publishes.

import { h, isTyping } from '../dom.js'
import { breakable, entries } from './contract.js'
import { setting } from '../settings.js'
import { language, setLanguage, t } from './words.js'

/** @type {import('./words.js').Word[]} */
const GROUPS = ['accounts', 'dreams', 'images', 'server', 'live', 'messages', 'closes', 'problems', 'shapes']

const root = /** @type {HTMLElement} */ (document.getElementById('docs'))

/** @param {Record<string, any>} openapi @param {Record<string, any>} asyncapi */
function show(openapi, asyncapi) {
  document.documentElement.lang = language
  document.title = t('title')
  const all = entries(openapi, asyncapi)
  const found = h('p', { class: 'found', role: 'status' })
  const field = h('input', {
    type: 'search',
    id: 'search',
    placeholder: t('search'),
    'aria-label': t('search'),
    title: t('search_hint'),
    autocomplete: 'off',
    on: { input: () => filter(all, field.value, found) },
  })
  const languages = h(
    'div',
    { class: 'languages' },
    /** @type {const} */ ([
      ['en', 'English'],
      ['zh', '中文'],
    ]).map(([code, name]) =>
      h(
        'button',
        {
          type: 'button',
          lang: code,
          'aria-pressed': String(code === language),
          on: { click: () => change(code, openapi, asyncapi) },
        },
        name,
      ),
    ),
  )
  const contents = h(
    'nav',
    { 'aria-label': t('contents') },
    GROUPS.map((group) => links(group, all)),
  )
  const main = h(
    'main',
    { id: 'content', tabindex: -1, lang: 'en' },
    h(
      'p',
      { lang: language, class: 'intro' },
      t('prose'),
      ' ',
      t('machine'),
      ' ',
      file('openapi'),
      ' ',
      file('asyncapi'),
    ),
    GROUPS.map((group) =>
      h(
        'section',
        { class: 'group', 'aria-labelledby': `group-${group}` },
        h('h2', { id: `group-${group}`, lang: language }, t(group)),
        group === 'problems' && h('p', { lang: language }, t('problem_intro')),
        all.filter((each) => each.group === group).map(({ element }) => element),
      ),
    ),
  )
  root.replaceChildren(
    h('a', { class: 'skip', href: '#content' }, t('skip')),
    h(
      'header',
      { class: 'docs-top' },
      h('h1', null, t('title')),
      h('p', { class: 'facts' }, t('version', { version: openapi.info.version })),
      languages,
      h('div', { class: 'find', role: 'search' }, field, found),
    ),
    h(
      'div',
      { class: 'columns' },
      h('details', { class: 'contents', open: innerWidth >= 900 }, h('summary', null, t('contents')), contents),
      main,
    ),
  )
}

/** @param {'openapi' | 'asyncapi'} name */
const file = (name) => h('a', { href: `/${name}.json` }, `${name}.json`)

/** @param {import('./words.js').Word} group @param {import('./contract.js').Entry[]} all */
function links(group, all) {
  const items = all
    .filter((each) => each.group === group)
    .map(({ id, name }) => h('li', { 'data-for': id }, h('a', { href: `#${id}` }, ...breakable(name))))
  return h('div', { class: 'group' }, h('h2', null, t(group)), h('ul', null, items))
}

/** @param {import('./words.js').Language} chosen @param {Record<string, any>} openapi @param {Record<string, any>} asyncapi */
function change(chosen, openapi, asyncapi) {
  const search = /** @type {HTMLInputElement} */ (document.getElementById('search')).value
  setLanguage(chosen)
  show(openapi, asyncapi)
  const field = /** @type {HTMLInputElement} */ (document.getElementById('search'))
  field.value = search
  field.dispatchEvent(new Event('input'))
  const button = /** @type {HTMLElement} */ (root.querySelector(`button[lang=${chosen}]`))
  button.focus()
}

/**
 * Shows only the entries that have all words. @param {import('./contract.js').Entry[]} all
 * @param {string} search @param {HTMLElement} found says how many
 */
function filter(all, search, found) {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean)
  const matching = new Set(
    all
      .filter(({ id, name, element }) => {
        const text = `${id} ${name} ${element.textContent}`.toLowerCase()
        return words.every((word) => text.includes(word))
      })
      .map(({ id }) => id),
  )
  for (const { id, element } of all) element.hidden = !matching.has(id)
  for (const item of root.querySelectorAll('li[data-for]'))
    /** @type {HTMLElement} */ (item).hidden = !matching.has(item.getAttribute('data-for') ?? '')
  for (const group of root.querySelectorAll('.group'))
    /** @type {HTMLElement} */ (group).hidden = !group.querySelector('.entry:not([hidden]), li:not([hidden])')
  found.textContent = !words.length ? '' : matching.size ? t('found', { n: matching.size }) : t('nothing')
}

/** To what the address names, once it is there. */
function jump() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)))
  if (!target) return
  target.scrollIntoView()
  target.focus({ preventScroll: true })
}

/** @param {string} path */
async function contract(path) {
  const answer = await fetch(path)
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`)
  return answer.json()
}

addEventListener('hashchange', jump)
addEventListener('keydown', (event) => {
  if (event.key !== '/' || isTyping(event.target) || event.ctrlKey || event.metaKey || event.altKey) return
  event.preventDefault()
  document.getElementById('search')?.focus()
})

const theme = setting('theme')
if (theme) document.documentElement.dataset.theme = theme
try {
  const [openapi, asyncapi] = await Promise.all([contract('/openapi.json'), contract('/asyncapi.json')])
  show(openapi, asyncapi)
  jump()
} catch (error) {
  root.replaceChildren(h('main', null, h('p', { class: 'problem', role: 'alert' }, t('failed'))))
  throw error
}
