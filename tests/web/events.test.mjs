// The client of one dream where no WebSocket gets through: server-sent events, and the way back.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  one,
  page,
  progress,
  script,
  through,
  time,
  timers,
  until,
  update,
  withoutWebSockets,
  works,
} from './harness.mjs'

const REFUSED = [{ status: 200 }] // as a proxy answers that does not know of WebSockets
const STREAM = { status: 200, headers: { 'Content-Type': 'text/event-stream' } }

function stream(...messages) {
  return [STREAM, ...messages.map((message) => ({ write: `data: ${JSON.stringify(message)}\n\n` }))]
}

test('falls back to events after three failed handshakes, with the token in a header', async (t) => {
  const pass = time(t)
  const messages = [update(1), progress(1, 2), update(2)]
  const { url, seen } = await script({ websocket: [REFUSED], http: [[...stream(...messages), 'stay']] })
  const { client, received, times, of } = one(t, url, { dreamId: 'a b' })
  client.connect()
  await through(times, pass)
  assert.equal((await times(1, 'connected')).carrier, 'events')
  await until(() => received.updates.length === 2, 'both states')
  assert.equal(received.progress.length, 1)
  assert.equal(of('waiting').length, 3)
  const [{ path, authorization }] = await seen('http')
  assert.equal(path, '/api/dreams/a%20b/events')
  assert.equal(authorization, 'Bearer token')
  client.close()
  await until(async () => (await seen('http'))[0].closed, 'the stream has ended')
  await until(() => timers() === 0, 'no timers')
})

test('falls back after three connections that were cut at once, but not after three with a close code', async (t) => {
  const pass = time(t)
  for (const [end, carrier] of [
    ['drop', 'events'],
    [{ close: 4102 }, 'websocket'],
  ]) {
    const websocket = [works(end), works(end), works(end), works()]
    const { url } = await script({ websocket, http: [[...stream(update(1)), 'stay']] })
    const { client, times } = one(t, url)
    client.connect()
    await through(times, pass)
    assert.equal((await times(4, 'connected')).carrier, carrier)
    client.close()
  }
})

test('falls back in a runtime without WebSocket', async (t) => {
  const pass = time(t)
  withoutWebSockets(t)
  const { url } = await script({ http: [[...stream(update(1)), 'stay']] })
  const { client, received, times } = one(t, url)
  client.connect()
  await through(times, pass)
  await until(() => received.updates.length, 'the state')
})

test('reads events in any chunks, with any other fields between them', async (t) => {
  const pass = time(t)
  const json = (revision) => JSON.stringify(update(revision, { note: '梦 🌊\u2028' }))
  const text = [
    '\ufeff: a comment\r\nretry: 1500\r\n\r\n',
    `id: 1\r\ndata: ${json(1)}\r\n\r\n`,
    `event: message\nid: 2\ndata:${json(2)}\n\n`,
    ':\n\n: heartbeat of a proxy\n\n',
    'data: not JSON\n\ndata: null\n\ndata\n\n',
    `data: ${json(3)}\nid: 3\nunknown: field\n\n`,
    `data: ${json(4)}\n`, // cut off: never delivered
  ].join('')
  for (const way of ['write', 'trickle']) {
    const { url } = await script({ websocket: [REFUSED], http: [[STREAM, { [way]: text }, 'stay']] })
    const { client, received, times } = one(t, url)
    client.connect()
    await through(times, pass)
    await until(() => received.updates.at(-1)?.revision === 3, `the last, by ${way}`)
    assert.deepEqual(
      received.updates,
      [1, 2, 3].map((revision) => JSON.parse(json(revision))),
    )
    client.close()
  }
})

test('reconnects a stream that was cut within a character, and reports nothing twice', async (t) => {
  const pass = time(t)
  const whole = `data: ${JSON.stringify(update(2, { note: '梦' }))}\n\n`
  const broken = Buffer.from(whole)
    .subarray(0, Buffer.from(whole).indexOf('梦') + 1)
    .toString('latin1')
  const http = [
    [...stream(update(1)), { bytes: broken }, 'drop'],
    [...stream(update(1)), { write: whole }, 'stay'],
  ]
  const { url } = await script({ websocket: [REFUSED], http })
  const { client, received, times } = one(t, url)
  client.connect()
  await through(times, pass, 4)
  await until(() => received.updates.length === 2, 'both states')
  assert.deepEqual(
    received.updates.map(({ revision, note }) => [revision, note]),
    [
      [1, undefined],
      [2, '梦'],
    ],
  )
})

const ENDINGS = { restarting: 1012, token_expired: 4101, signed_out_elsewhere: 4101, of_tomorrow: 0 }
for (const [code, closeCode] of Object.entries(ENDINGS)) {
  test(`a stream that ends with "${code}" is followed by another, with a fresh token`, async (t) => {
    const pass = time(t)
    const error = { type: 'error', code, message: '…' }
    const http = [stream(update(1), error), [...stream(update(1)), 'stay']]
    const { url, seen } = await script({ websocket: [REFUSED], http })
    let asked = 0
    const { client, received, times } = one(t, url, { token: () => `token ${++asked}` })
    client.connect()
    await through(times, pass, 4)
    await times(2, 'connected')
    assert.equal((await times(4, 'waiting')).code, closeCode)
    assert.deepEqual(received.errors, [error])
    assert.equal((await seen('http'))[1].authorization, 'Bearer token 5')
  })
}

const STOPS = {
  'signed out': [stream(update(1), { type: 'error', code: 'signed_out', message: '…' }), 4401],
  'a deleted dream': [stream({ type: 'dream_deleted', dream_id: 'd', timestamp: 1 }), 1000],
  'a wrong token': [[{ status: 401 }], 4401],
  'no such dream': [[{ status: 404 }], 4403],
}
for (const [what, [turn, code]] of Object.entries(STOPS)) {
  test(`stops at ${what}`, async (t) => {
    const pass = time(t)
    const { url } = await script({ websocket: [REFUSED], http: [turn] })
    const { client, times } = one(t, url, { token: async () => 'token' })
    client.connect()
    await through(times, pass)
    assert.equal((await times(1, 'closed')).code, code)
    assert.equal(timers(), 0)
  })
}

for (const status of [429, 503]) {
  test(`waits as long as a ${status} says`, async (t) => {
    const pass = time(t)
    const http = [[{ status, headers: { 'Retry-After': '40' } }]]
    const { url } = await script({ websocket: [REFUSED], http })
    const { client, times } = one(t, url)
    client.connect()
    await through(times, pass)
    const { retryIn } = await times(4, 'waiting')
    assert.ok(40 <= retryIn && retryIn <= 41, retryIn)
  })
}

const NO_STREAM = {
  'a server that is broken': [{ status: 500 }],
  'the page of a hotel': [{ status: 200 }, { write: '<html>Accept our terms</html>\n\n' }],
  'a network that swallows all': ['stay'],
}
for (const [what, turn] of Object.entries(NO_STREAM)) {
  test(`before ${what} both ways take turns`, async (t) => {
    const pass = time(t)
    const { url, seen } = await script({ websocket: [REFUSED], http: [turn] })
    const { client, times } = one(t, url)
    client.connect()
    const kinds = ['websocket', 'websocket', 'websocket', 'http', 'websocket', 'http', 'websocket']
    for (const [index, kind] of kinds.entries()) {
      await until(async () => (await seen()).length > index, 'an attempt')
      assert.equal((await seen())[index].kind, kind)
      if (kind === 'http' && turn[0] === 'stay') await pass(21)
      await pass((await times(index + 1, 'waiting')).retryIn)
    }
  })
}

test('tries a WebSocket again every five minutes, also when every stream is shorter', async (t) => {
  const pass = time(t)
  const http = [[...stream(update(1)), 'stay']] // which a minute of silence ends
  const { url, seen } = await script({ websocket: [REFUSED, REFUSED, REFUSED, REFUSED, works()], http })
  const { client, received, times, of } = one(t, url)
  client.connect()
  await through(times, pass)
  for (const count of [4, 5]) {
    let passed = 0
    for (; (await seen('websocket')).length < count; passed += 5) {
      await until(() => received.statuses.at(-1).status !== 'connecting', 'an end of the attempt')
      await pass(5)
    }
    assert.ok(295 <= passed && passed <= 310, passed)
  }
  assert.ok((await seen('http')).length >= 8)
  await until(() => of('connected').at(-1).carrier === 'websocket', 'a WebSocket')
})

test('tries a WebSocket again when the network changes', async (t) => {
  const pass = time(t)
  const { online } = page(t)
  const http = [[...stream(update(1)), 'stay']]
  const { url } = await script({ websocket: [REFUSED, REFUSED, REFUSED, works()], http })
  const { client, times } = one(t, url)
  client.connect()
  await through(times, pass)
  await times(1, 'connected')
  online()
  await pass((await times(4, 'waiting')).retryIn)
  assert.equal((await times(2, 'connected')).carrier, 'websocket')
})
