// The client of many dreams over one connection, and its way of asking where no WebSocket gets through.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { AUTHENTICATED, many, progress, script, through, time, timers, until, update } from './harness.mjs'

const SUBSCRIBED = { wait: 'subscribe' }
const REFUSED = [{ status: 200 }]

function state(dream_id, revision) {
  return { send: update(revision, { dream_id }) }
}

/** The ids that a connection has subscribed and unsubscribed. */
function said({ messages }, type = 'subscribe') {
  return messages.filter((message) => message.type === type).flatMap(({ dream_ids }) => dream_ids)
}

test('subscribes before and during a connection, and again after each reconnection', async (t) => {
  const pass = time(t)
  const leaves = [{ wait: 'unsubscribe' }, { close: 4102 }]
  const first = [AUTHENTICATED, SUBSCRIBED, state('a', 1), SUBSCRIBED, state('b', 1), ...leaves]
  const second = [AUTHENTICATED, SUBSCRIBED, state('b', 1), state('c', 1), state('b', 2)]
  const { url, seen } = await script({ websocket: [first, second] })
  const { client, received, times } = many(t, url)
  client.subscribe(['a'])
  client.connect()
  await until(() => received.updates.length === 1, 'the first state')
  client.subscribe(['a', 'b', 'b'])
  await until(() => received.updates.length === 2, 'the second state')
  client.unsubscribe(['a', 'unknown'])
  const { retryIn } = await times(1, 'waiting')
  client.subscribe(['c'])
  await pass(retryIn)
  await until(() => received.updates.length === 4, 'the newer states')
  assert.deepEqual(
    received.updates.map(({ dream_id, revision }) => `${dream_id}${revision}`),
    ['a1', 'b1', 'c1', 'b2'],
  )
  const connections = await seen()
  assert.equal(connections[0].path, '/ws/dream-images/')
  assert.deepEqual(
    connections.map((each) => said(each)),
    [
      ['a', 'b'],
      ['b', 'c'],
    ],
  )
  assert.deepEqual(said(connections[0], 'unsubscribe'), ['a'])
})

test('keeps the connection open without any dream', async (t) => {
  const pass = time(t)
  const pong = [{ wait: 'ping' }, { send: { type: 'pong', timestamp: 1 } }]
  const { url, seen } = await script({ websocket: [[AUTHENTICATED, ...pong, ...pong, SUBSCRIBED, state('a', 1)]] })
  const { client, received, times, of } = many(t, url)
  client.connect()
  await times(1, 'connected')
  await pass(45)
  client.subscribe(['a'])
  await until(() => received.updates.length, 'the state')
  assert.equal(of('waiting').length, 0)
  assert.equal((await seen()).length, 1)
})

test('subscribes a thousand dreams in messages of less than 4 KiB, also with long ids', async (t) => {
  for (const make of [(n) => `${n}`.padStart(24, '0'), (n) => `梦${n}`.padStart(300, 'x')]) {
    const { url, seen } = await script({ websocket: [[AUTHENTICATED]] })
    const { client } = many(t, url)
    const ids = Array.from({ length: 1000 }, (_, n) => make(n))
    client.subscribe([...ids, 'one too many'])
    client.connect()
    await until(async () => said((await seen())[0] ?? { messages: [] }).length === 1000, 'all of them')
    const [connection] = await seen()
    assert.deepEqual(said(connection), ids)
    assert.ok(connection.messages.every((message) => Buffer.byteLength(JSON.stringify(message)) < 4096))
    client.close()
  }
})

test('compares revisions per dream, and ignores other dreams', async (t) => {
  const messages = [
    state('a', 7),
    state('b', 2),
    state('a', 7),
    { send: progress(1, 8, { dream_id: 'a' }) },
    state('a', 8),
    { send: progress(1, 3, { dream_id: 'b' }) },
    state('stranger', 9),
    { send: { type: 'error', code: 'bad_message', message: '…' } },
    { send: { type: 'dream_deleted', dream_id: 'a', timestamp: 1 } },
    state('a', 9),
    state('b', 3),
  ]
  const { url, seen } = await script({ websocket: [[AUTHENTICATED, SUBSCRIBED, ...messages]] })
  const { client, received, of } = many(t, url)
  client.subscribe(['a', 'b'])
  client.connect()
  await until(() => received.updates.length === 4, 'the last')
  assert.deepEqual(
    received.updates.map(({ dream_id, revision }) => `${dream_id}${revision}`),
    ['a7', 'b2', 'a8', 'b3'],
  )
  assert.deepEqual(
    received.progress.map(({ dream_id }) => dream_id),
    ['a', 'b'],
  )
  assert.deepEqual(
    received.deleted.map(({ dream_id }) => dream_id),
    ['a'],
  )
  assert.equal(of('closed').length, 0)
  client.close()
  await until(async () => (await seen())[0].closed === 1000, 'the server knows')
  await until(() => timers() === 0, 'no timers')
})

test('subscribes a dream again when a heartbeat has a missed revision', async (t) => {
  const beat = (revision) => ({ send: { type: 'heartbeat', dream_id: 'b', revision, timestamp: 1 } })
  const states = [state('a', 1), state('b', 1)]
  const turn = [AUTHENTICATED, SUBSCRIBED, ...states, beat(1), beat(3), SUBSCRIBED, state('b', 3), beat(3)]
  const { url, seen } = await script({ websocket: [turn] })
  const { client, received } = many(t, url)
  client.subscribe(['a', 'b'])
  client.connect()
  await until(() => received.updates.length === 3, 'the state')
  const connections = await seen()
  assert.equal(connections.length, 1)
  assert.deepEqual(said(connections[0]), ['a', 'b', 'b'])
})

test('reports a dream that does not exist, and does not ask for it again', async (t) => {
  const pass = time(t)
  const error = { type: 'error', code: 'not_found', message: '…', dream_id: 'a' }
  const first = [AUTHENTICATED, SUBSCRIBED, { send: error }, { close: 4102 }]
  const { url, seen } = await script({ websocket: [first, [AUTHENTICATED]] })
  const { client, received, times } = many(t, url)
  client.subscribe(['a', 'b'])
  client.connect()
  await pass((await times(1, 'waiting')).retryIn)
  await until(async () => said((await seen())[1] ?? { messages: [] }).length === 1, 'the other')
  assert.deepEqual(received.errors, [error])
  assert.deepEqual(said((await seen())[1]), ['b'])
})

const ERROR = { code: 'corrupt', message: '…', retryable: false }
const IMAGES = [
  { id: 1, position: 3, status: 'completed', url: 'http://pictures/1', error: null },
  { id: 2, position: 5, status: 'failed', url: null, error: ERROR },
]

function dream(id, revision, status = 'completed') {
  return [{ write: JSON.stringify({ id, revision, status, images: IMAGES }) }]
}

test('polls each dream for newer revisions without a WebSocket, until the token expires', async (t) => {
  const pass = time(t)
  const [not, gone, over] = [304, 404, 401].map((status) => [{ status }])
  const first = [dream('a', 4), dream('b', 2, 'processing'), gone]
  const http = [...first, not, dream('b', 3), not, gone, over, ['stay']]
  const { url, seen } = await script({ websocket: [REFUSED], http })
  let asked = 0
  const { client, received, times } = many(t, url, { token: () => `token ${++asked}` })
  client.subscribe(['a', 'b', 'c'])
  client.connect()
  await through(times, pass)
  for (const [count, messages] of [
    [3, 3],
    [5, 4],
    [7, 5],
  ]) {
    await until(async () => (await seen('http')).length === count, `${count} looks`)
    await until(
      () => received.updates.length + received.errors.length + received.deleted.length === messages,
      'the messages',
    )
    await pass(10)
  }
  assert.equal((await times(1, 'connected')).carrier, 'events')
  assert.deepEqual(
    received.updates.map(({ dream_id, status, revision }) => [dream_id, status, revision]),
    [
      ['a', 'completed', 4],
      ['b', 'processing', 2],
      ['b', 'completed', 3],
    ],
  )
  assert.deepEqual(received.updates[0].images, [{ id: 1, position: 3, url: 'http://pictures/1' }])
  assert.deepEqual(received.updates[0].failed_images, [{ id: 2, position: 5, error: ERROR }])
  assert.deepEqual(received.updates[1].images, [])
  assert.deepEqual(
    received.errors.map(({ code, dream_id }) => [code, dream_id]),
    [['not_found', 'c']],
  )
  assert.deepEqual(
    received.deleted.map(({ dream_id }) => dream_id),
    ['b'],
  )
  const { code, retryIn } = await times(4, 'waiting')
  assert.equal(code, 4101)
  await pass(retryIn)
  await until(async () => (await seen('http')).length === 9, 'another look')
  const looks = await seen('http')
  assert.deepEqual(
    looks.map(({ path }) => path.replace('/api/dreams/', '')),
    [
      'a?since=0&wait=0',
      'b?since=0&wait=0',
      'c?since=0&wait=0',
      'a?since=4&wait=0',
      'b?since=2&wait=0',
      'a?since=4&wait=0',
      'b?since=3&wait=0',
      'a?since=4&wait=0',
      'a?since=4&wait=0',
    ],
  )
  assert.deepEqual([...new Set(looks.map(({ authorization }) => authorization))], ['Bearer token 4', 'Bearer token 5'])
})

test('reports the end of a dream whose last picture was reported before the connection was cut', async (t) => {
  const pass = time(t)
  const cut = [AUTHENTICATED, SUBSCRIBED, state('a', 1), { send: progress(1, 2, { dream_id: 'a' }) }, 'drop']
  const { url, seen } = await script({ websocket: [cut, REFUSED], http: [dream('a', 2)] })
  const { client, received, times } = many(t, url)
  client.subscribe(['a'])
  client.connect()
  await through(times, pass)
  await until(() => received.updates.length === 2, 'the end')
  assert.equal((await seen('http'))[0].path, '/api/dreams/a?since=1&wait=0')
})

test('closing during a poll or between two polls leaves no timer and no request', async (t) => {
  const pass = time(t)
  const inHand = async ({ seen }) => until(async () => (await seen('http')).length)
  const between = async ({ received }) => until(() => received.updates.length)
  const moments = [
    [['stay'], inHand, () => {}],
    [dream('a', 1), between, () => {}],
    [dream('a', 1), between, (client) => client.close()],
  ]
  for (const [turn, reached, onUpdate] of moments) {
    const { url, seen } = await script({ websocket: [REFUSED], http: [turn] })
    const all = many(t, url)
    const { handleImageUpdate } = all.client
    all.client.handleImageUpdate = (message) => [handleImageUpdate(message), onUpdate(all.client)]
    all.client.subscribe(['a'])
    all.client.connect()
    await through(all.times, pass)
    await reached({ seen, received: all.received })
    all.client.close()
    assert.equal(timers(), 0)
    const looks = (await seen('http')).length
    await pass(20)
    assert.equal((await seen('http')).length, looks)
  }
})
