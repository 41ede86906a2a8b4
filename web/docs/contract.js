// @ts-check
// The two contracts as elements: calls, channels, messages, close codes, problems and shapes.

import { h } from '../dom.js'
import { t } from './words.js'

/**
 * @typedef {Record<string, any>} Json
 * @typedef {{id: string, name: string, group: string, element: HTMLElement}} Entry one part that can be searched for
 */

const METHODS = ['get', 'head', 'post', 'patch', 'put', 'delete']
const SCHEMA = '#/components/schemas/'

/** Every entry of the documentation, in order. @param {Json} openapi @param {Json} asyncapi @returns {Entry[]} */
export function entries(openapi, asyncapi) {
  const schemas = { ...openapi.components.schemas, ...asyncapi.components.schemas }
  const inline = new Set(Object.keys(asyncapi.components.messages))
  const shapes = Object.entries(schemas).filter(([name, schema]) => !inline.has(name) && !schema.oneOf)
  shapes.sort(([a], [b]) => (a < b ? -1 : 1))
  return [
    ...calls(openapi),
    ...Object.entries(asyncapi.channels).map(([name, channel]) => channelEntry(name, channel)),
    ...Object.entries(asyncapi.components.messages).map(([name, message]) =>
      messageEntry(name, message, schemas[name], asyncapi),
    ),
    ...closeCodes(asyncapi),
    ...problems(openapi),
    ...shapes.map(([name, schema]) =>
      entry(name, name, 'shapes', [
        text(schema.description),
        ...(schema.properties ? [fields(schema)] : [choices(schema)]),
      ]),
    ),
  ]
}

/** @param {Json} openapi */
function calls(openapi) {
  /** @type {Entry[]} */
  const found = []
  for (const { name: tag } of openapi.tags)
    for (const [path, item] of Object.entries(openapi.paths))
      for (const method of METHODS)
        if (item[method]?.tags.includes(tag)) found.push(callEntry(method, path, item[method]))
  return found
}

/** @param {string} method @param {string} path @param {Json} call */
function callEntry(method, path, call) {
  const name = `${method.toUpperCase()} ${path}`
  const title = [
    h('span', { class: `method ${method}` }, method.toUpperCase()),
    ' ',
    h('code', null, ...breakable(path)),
  ]
  return entry(
    call.operationId,
    name,
    call.tags[0].toLowerCase(),
    [
      h(
        'p',
        { class: 'summary' },
        `${call.summary}. `,
        h('small', null, t(call.security.length ? 'token' : 'no_token')),
      ),
      text(call.description),
      ...(call.parameters ? [part('parameters', list(call.parameters.map(parameter)))] : []),
      ...(call.requestBody ? [body(call.requestBody)] : []),
      part('answers', answers(call.responses)),
    ],
    title,
  )
}

/** @param {Json} parameter */
function parameter({ name, in: place, schema, description, required }) {
  const where = t(place === 'path' ? 'in_path' : place === 'query' ? 'in_query' : 'in_header')
  return row(name, [where, ...facts(schema)], description, required)
}

/** @param {Json} requestBody */
function body({ content, required }) {
  return part(
    required ? 'body' : 'optional_body',
    ...Object.entries(content).flatMap(([media, { schema, example }]) => [
      h('p', null, h('code', null, media), ': ', typeOf(schema)),
      example !== undefined && code(example),
    ]),
  )
}

/** @param {Json} responses */
function answers(responses) {
  const rows = list(
    Object.entries(responses).map(([status, { description, content = {}, headers = {} }]) => {
      const [media, { schema, example } = /** @type {Json} */ ({})] = Object.entries(content)[0] ?? ['', {}]
      const names = Object.keys(headers)
      const isProblem = media === 'application/problem+json'
      return h(
        'div',
        { class: 'row' },
        h('dt', null, h('code', { class: status < '400' ? 'good' : 'status' }, status)),
        h(
          'dd',
          null,
          h(
            'p',
            null,
            ...marked(description),
            ' ',
            media && !isProblem && h('span', { class: 'facts' }, schema?.$ref ? typeOf(schema) : media),
          ),
          names.length > 0 && h('p', { class: 'facts' }, t('headers', { names: names.join(', ') })),
          example !== undefined && h('details', null, h('summary', null, t('example')), code(example)),
        ),
      )
    }),
  )
  rows.classList.add('answers')
  return rows
}

/** @param {string} name @param {Json} channel */
function channelEntry(name, channel) {
  const links = Object.keys(channel.messages).flatMap((each) => [link(`message-${each}`, each), ' '])
  return entry(
    `channel-${name}`,
    channel.address,
    'live',
    [
      h('p', { class: 'summary' }, `${channel.title}.`),
      text(channel.description),
      channel['x-close-code-rule'] && text(channel['x-close-code-rule']),
      part('messages', h('p', { class: 'links' }, ...links)),
    ],
    [h('code', null, ...breakable(channel.address))],
  )
}

/** @param {string} name @param {Json} message @param {Json} schema @param {Json} asyncapi */
function messageEntry(name, message, schema, asyncapi) {
  const sent = Object.values(asyncapi.operations).some(
    (each) => each.action === 'send' && each.messages.some((/** @type {Json} */ { $ref }) => $ref.endsWith(`/${name}`)),
  )
  return entry(
    `message-${name}`,
    message.name,
    'messages',
    [
      h('p', { class: 'facts' }, t(sent ? 'from_server' : 'from_client')),
      text(schema.description),
      fields(schema),
      part('example', code(message.examples[0].payload)),
    ],
    [h('code', null, message.name)],
  )
}

/** @param {Json} asyncapi @returns {Entry[]} */
function closeCodes(asyncapi) {
  const { 'x-close-codes': codes } = asyncapi.channels.dream
  return codes.map((/** @type {Json} */ { code, meaning, then }) =>
    entry(`close-${code}`, String(code), 'closes', [
      h('p', null, ...marked(meaning), ' ', h('span', { class: 'facts' }, t(then === 'stop' ? 'stop' : 'reconnect'))),
    ]),
  )
}

/** @param {Json} openapi @returns {Entry[]} */
function problems(openapi) {
  const blank = { type: 'about:blank', title: '', description: t('blank_problem') }
  return [blank, ...openapi['x-problem-types']].map(({ type, description }) =>
    entry(type.replace(/^\//, ''), type, 'problems', [text(description), h('p', null, link('Problem', 'Problem'))]),
  )
}

// ---- shapes

/** @param {Json} schema */
function fields(schema) {
  const required = schema.required ?? []
  const rows = Object.entries(schema.properties).map(([name, each]) =>
    row(name, facts(each), each.description, required.includes(name)),
  )
  return part('fields', list(rows))
}

/** @param {Json} schema */
const choices = (schema) => h('p', null, ...facts(schema).flatMap((each) => [each, ' ']))

/** @param {string} name @param {(Node | string)[]} about @param {string | undefined} description @param {boolean} required */
function row(name, about, description, required) {
  const all = [...about, t(required ? 'required' : 'optional')].flatMap((each, n) => (n ? [' · ', each] : [each]))
  return h(
    'div',
    { class: 'row' },
    h('dt', null, h('code', null, name)),
    h('dd', null, h('p', { class: 'facts' }, ...all), text(description)),
  )
}

/** What a schema says of a value, in short. @param {Json} schema @returns {(Node | string)[]} */
function facts(schema) {
  const found = [typeOf(schema)]
  const bare = schema.anyOf?.find((/** @type {Json} */ each) => each.type !== 'null') ?? schema
  const values = bare.enum
  if (values)
    found.push(
      h(
        'span',
        null,
        ...marked(t('one_of', { values: values.map((/** @type {string} */ v) => `\`${v}\``).join(', ') })),
      ),
    )
  const length = range(bare.minLength, bare.maxLength)
  const items = range(bare.minItems, bare.maxItems)
  const value = range(bare.minimum, bare.maximum)
  if (value) found.push(said(value))
  if (length) found.push(said(t('length', { range: length })))
  if (items) found.push(said(t('items', { range: items })))
  if (schema.default !== undefined && schema.default !== null)
    found.push(said(t('by_default', { value: schema.default })))
  return found
}

/** @param {number | undefined} least @param {number | undefined} most */
function range(least, most) {
  const values = { from: least?.toLocaleString('en') ?? '', to: most?.toLocaleString('en') ?? '' }
  if (least !== undefined) return t(most === undefined ? 'at_least' : 'between', values)
  return most === undefined ? '' : t('at_most', values)
}

/** @param {string} words */
const said = (words) => h('span', null, words)

/** @param {Json} schema @returns {HTMLElement} */
function typeOf(schema) {
  if (schema.$ref) {
    const name = schema.$ref.slice(SCHEMA.length)
    return link(name, name)
  }
  if (schema.anyOf)
    return h(
      'span',
      null,
      ...schema.anyOf.flatMap((/** @type {Json} */ each, /** @type {number} */ n) =>
        n ? [' | ', typeOf(each)] : [typeOf(each)],
      ),
    )
  if (schema.const !== undefined) return h('code', null, JSON.stringify(schema.const))
  if (schema.type === 'array') return filled('list_of', typeOf(schema.items))
  if (schema.additionalProperties) return filled('map_of', typeOf(schema.additionalProperties))
  if (schema.contentMediaType) return said(t('file'))
  return said(schema.format ?? schema.type ?? 'JSON')
}

/** A phrase with an element in the place of `{type}`. @param {import('./words.js').Word} word @param {HTMLElement} type */
function filled(word, type) {
  const [before, after] = t(word, { type: '\n' }).split('\n')
  return h('span', null, before, type, after)
}

// ---- pieces

/**
 * @param {string} id @param {string} name @param {string} group
 * @param {(Node | null | false | undefined)[]} content @param {(Node | string)[]} [title]
 * @returns {Entry}
 */
function entry(id, name, group, content, title = [h('code', null, name)]) {
  const heading = h(
    'h3',
    null,
    ...title,
    ' ',
    h('a', { class: 'anchor', href: `#${id}`, 'aria-label': t('link', { name }) }, '#'),
  )
  const element = h('article', { id, class: 'entry', tabindex: -1 }, heading)
  element.append(...content.filter((each) => each instanceof Node))
  return { id, name, group, element }
}

/** @param {import('./words.js').Word} word @param {...(Node | false)} content */
function part(word, ...content) {
  const element = h('section', { class: 'part' }, h('h4', null, t(word)))
  element.append(...content.filter((each) => each instanceof Node))
  return element
}

/** @param {Node[]} rows */
const list = (rows) => h('dl', { class: 'rows' }, rows)

/** @param {string} id @param {string} name */
const link = (id, name) => h('a', { href: `#${id}` }, name)

/** @param {unknown} value */
const code = (value) => h('pre', { tabindex: 0 }, h('code', null, JSON.stringify(value, null, 2)))

/** Paragraphs, with `code` in them. @param {string | undefined} description */
function text(description) {
  if (!description) return null
  const element = h('div', { class: 'text' })
  element.append(...description.split(/\n\n+/).map((paragraph) => h('p', null, ...marked(paragraph))))
  return element
}

/** @param {string} sentence @returns {(Node | string)[]} */
const marked = (sentence) => sentence.split('`').map((each, n) => (n % 2 ? h('code', null, each) : each))

/** A path that may break behind each slash. @param {string} path */
export const breakable = (path) => path.split(/(?<=\/)/).flatMap((each) => [h('wbr', null), each])
