// The client for one dream, with servers and networks that do everything the protocol allows, and some things it forbids.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { AUTHENTICATED, HELLO, one, page, progress, script, time, timers, until, update, works } from './harness.mjs'

test('the first name of the library gives the same client', async () => {
  assert.deepEqual(await import('../../web/frontend_example.js'), await import('../../web/client/dreamlog.js'))
})

test('authenticates in the first message, with a fresh token for each connection, never in the URL', async (t) => {
  const pass = time(t)
  const { url, seen } = await script({ websocket: [works({ close: 4102 }), works()] })
  let asked = 0
  const { client, received, times } = one(t, url, { token: async () => `token ${++asked}`, dreamId: 'a b/c' })
  client.connect()
  const { retryIn } = await times(1, 'waiting')
  await pass(retryIn)
  await times(2, 'connected')
  const connections = await seen()
  assert.deepEqual(
    connections.map(({ messages }) => messages[0]),
    [
      { type: 'authenticate', token: 'Bearer token 1' },
      { type: 'authenticate', token: 'Bearer token 2' },
    ],
  )
  assert.ok(connections.every(({ path, authorization }) => path === '/ws/dream-images/a%20b%2Fc/' && !authorization))
  assert.equal(received.connected.length, 2)
})

test('fetches a token again after an error, and stops without a token', async (t) => {
  const pass = time(t)
  const { url } = await script({ websocket: [works()] })
  const answers = [
    () => {
      throw new Error('thrown')
    },
    () => Promise.reject(new Error('rejected')),
    () => 'token',
  ]
  const good = one(t, url, { token: () => answers.shift()() })
  good.client.connect()
  for (const count of [1, 2]) await pass((await good.times(count, 'waiting')).retryIn)
  await good.times(1, 'connected')
  for (const token of [null, '', async () => undefined]) {
    const bad = one(t, url, { token })
    bad.client.connect()
    assert.equal((await bad.times(1, 'closed')).code, 4401)
  }
})

test('fetches one token at a time, also when it is closed and connected again', async (t) => {
  const { url, seen } = await script({ websocket: [works()] })
  const waiting = []
  const { client, times } = one(t, url, { token: () => new Promise((give) => waiting.push(give)) })
  client.connect()
  client.close()
  client.connect()
  await until(() => waiting.length, 'the token is asked for')
  waiting[0]('token')
  await times(1, 'connected')
  assert.equal(waiting.length, 1)
  assert.equal((await seen()).length, 1)
})

for (const code of [1000, 4400, 4401, 4403, 4999]) {
  test(`stops at close code ${code}`, async (t) => {
    const { url, seen } = await script({ websocket: [works({ close: code })] })
    const { client, times, of } = one(t, url)
    client.connect()
    assert.equal((await times(1, 'closed')).code, code)
    assert.equal(timers(), 0)
    assert.equal((await seen()).length, 1)
    assert.equal(of('waiting').length, 0)
  })
}

const PAUSES = { 1001: 1, 1009: 1, 1011: 1, 1012: 5, 3000: 1, 4101: 0, 4102: 1, 4103: 1, 4129: 1, 4399: 1 }
for (const [code, most] of Object.entries(PAUSES)) {
  test(`comes back after close code ${code}, within ${most} s`, async (t) => {
    const pass = time(t)
    t.mock.method(Math, 'random', () => 0.75)
    const { url } = await script({ websocket: [works({ close: Number(code) }), works()] })
    const { client, times } = one(t, url)
    client.connect()
    const waiting = await times(1, 'waiting')
    assert.equal(waiting.code, Number(code))
    assert.equal(waiting.retryIn, 0.75 * most)
    await pass(waiting.retryIn)
    await times(2, 'connected')
  })
}

test('reconnects after a cut connection, and reports the state only if it is newer', async (t) => {
  const pass = time(t)
  const { url } = await script({ websocket: [works('drop'), works({ send: update(2) })] })
  const { client, received, times } = one(t, url)
  client.connect()
  const { code, retryIn } = await times(1, 'waiting')
  assert.equal(code, 1006)
  await pass(retryIn)
  await until(() => received.updates.length === 2, 'both states')
  assert.deepEqual(
    received.updates.map(({ revision }) => revision),
    [1, 2],
  )
})

test('reconnects at once after the first 4101, and never in a tight loop', async (t) => {
  const pass = time(t)
  const { url } = await script({ websocket: [works({ close: 4101 })] })
  const { client, times, of } = one(t, url)
  client.connect()
  for (let count = 1; count <= 5; count++) await pass((await times(count, 'waiting')).retryIn)
  const waits = of('waiting').map(({ retryIn }) => retryIn)
  assert.equal(waits[0], 0)
  for (const [index, wait] of waits.entries()) assert.ok(index === 0 || (0 < wait && wait <= 2 ** index), waits)
})

test('waits after 4129 as long as the server requires, also when the network comes back', async (t) => {
  const pass = time(t)
  const { online } = page(t)
  const error = { type: 'error', code: 'too_many_connections', message: '…', retry_after: 20 }
  const { url } = await script({ websocket: [[AUTHENTICATED, { send: error }, { close: 4129 }], works()] })
  const { client, received, times, of } = one(t, url)
  client.connect()
  const { retryIn } = await times(1, 'waiting')
  assert.ok(20 <= retryIn && retryIn <= 21, retryIn)
  assert.deepEqual(received.errors, [error])
  await pass(19)
  online()
  assert.equal(of('connecting').length, 1)
  await pass(2)
  await times(1, 'connected')
})

test('backs off up to 30 s, with full jitter', async (t) => {
  const pass = time(t)
  const { url } = await script({ websocket: [['drop']] })
  const { client, times, of } = one(t, url)
  client.connect()
  for (let count = 1; count <= 12; count++) await pass((await times(count, 'waiting')).retryIn)
  const waits = of('waiting').map(({ retryIn }) => retryIn)
  for (const [index, wait] of waits.entries()) assert.ok(wait <= Math.min(30, 2 ** index), waits)
  assert.ok(Math.max(...waits.slice(5)) > 1, waits)
  assert.equal(new Set(waits).size, waits.length)
})

for (const pings of [1, 2]) {
  test(`after ${30 * pings} s the next failure ${pings > 1 ? 'is a first one again' : 'is one more'}`, async (t) => {
    const pass = time(t)
    const revisions = [2, 3].slice(0, pings)
    const answers = revisions.flatMap((revision) => [{ wait: 'ping' }, { send: update(revision) }])
    const { url } = await script({ websocket: [works({ close: 4102 }), works(...answers), works()] })
    const { client, received, times } = one(t, url)
    client.connect()
    await pass((await times(1, 'waiting')).retryIn)
    await times(2, 'connected')
    for (const wanted of revisions) {
      await pass(30)
      await until(() => received.updates.at(-1).revision === wanted, 'the answer to a ping')
    }
    client.reconnect()
    assert.equal((await times(2, 'waiting')).retryIn === 0, pings === 2)
  })
}

test('pings every 30 s, and reconnects after a minute of silence', async (t) => {
  const pass = time(t)
  const { url, seen } = await script({ websocket: [works(), works()] })
  const { client, received, times, of } = one(t, url)
  client.connect()
  await until(() => received.updates.length, 'the state')
  await pass(59)
  assert.equal(of('waiting').length, 0)
  await until(async () => (await seen())[0].messages.filter(({ type }) => type === 'ping').length === 1, 'one ping')
  await pass(10)
  await pass((await times(1, 'waiting')).retryIn)
  await times(2, 'connected')
})

test('any message keeps the connection alive, also an unknown one', async (t) => {
  const pass = time(t)
  const noise = ['not JSON', 'null', '[]', '7', '{"type": "of tomorrow"}', '{}'].map((text) => ({ say: text }))
  const { url, seen } = await script({ websocket: [works({ wait: 'ping' }, ...noise, { send: update(2) })] })
  const { client, received, of } = one(t, url)
  client.connect()
  await until(() => received.updates.length, 'the state')
  await pass(45)
  await until(() => received.updates.length === 2, 'what follows the noise')
  await pass(45)
  assert.equal(of('waiting').length, 0)
  assert.equal((await seen()).length, 1)
})

test('gives up a hanging handshake and a silent server', async (t) => {
  const pass = time(t)
  const { url, seen } = await script({ websocket: [['stay'], [AUTHENTICATED], works()] })
  const { client, times } = one(t, url)
  client.connect()
  for (const count of [1, 2]) {
    await until(async () => (await seen()).length === count, 'a connection')
    if (count === 2) await until(async () => (await seen())[1].messages.length, 'its token')
    await pass(21)
    await pass((await times(count, 'waiting')).retryIn)
  }
  await times(1, 'connected')
  await until(async () => (await seen())[0].closed, 'the hanging one is gone')
})

test('reports only newer messages, compared per picture and for the dream', async (t) => {
  const messages = [
    progress(1, 2),
    progress(1, 2),
    progress(2, 3),
    update(3),
    update(3),
    progress(2, 3),
    update(2),
    progress(1, 3),
    progress(1, 5),
    progress(2, 4),
    update(5),
    progress(2, 5),
    progress(3, 5),
    update(6),
  ]
  const { url } = await script({ websocket: [works(...messages.map((send) => ({ send })))] })
  const { client, received } = one(t, url)
  client.connect()
  await until(() => received.updates.at(-1)?.revision === 6, 'the last')
  assert.deepEqual(
    received.updates.map(({ revision }) => revision),
    [1, 3, 5, 6],
  )
  assert.deepEqual(
    received.progress.map(({ image, revision }) => [image.id, revision]),
    [
      [1, 2],
      [2, 3],
      [1, 5],
      [2, 4],
    ],
  )
})

test('reconnects when a heartbeat has a missed revision', async (t) => {
  const beat = (revision) => ({ send: { type: 'heartbeat', dream_id: 'd', revision, timestamp: 1 } })
  const missed = works({ send: progress(1, 2) }, beat(1), beat(2), beat(4))
  const { url, seen } = await script({ websocket: [missed, [AUTHENTICATED, HELLO, { send: update(4) }, beat(4)]] })
  const { client, received, of } = one(t, url)
  client.connect()
  await until(() => received.updates.at(-1)?.revision === 4, 'the state')
  assert.equal(of('waiting')[0].retryIn, 0)
  assert.equal((await seen()).length, 2)
})

test('does not reconnect in a tight loop when heartbeats are wrong', async (t) => {
  const pass = time(t)
  const lie = { send: { type: 'heartbeat', dream_id: 'd', revision: 9, timestamp: 1 } }
  const { url } = await script({ websocket: [works(lie)] })
  const { client, times, of } = one(t, url)
  client.connect()
  for (let count = 1; count <= 3; count++) await pass((await times(count, 'waiting')).retryIn)
  assert.ok(of('waiting').every(({ retryIn }, index) => index === 0 || retryIn > 0))
})

const EXPIRING = { send: { type: 'token_expiring', expires_in: 60 } }

test('sends a fresh token on the same connection before the old one expires', async (t) => {
  const pass = time(t)
  const { url, seen } = await script({ websocket: [works(EXPIRING, EXPIRING, { wait: 'ping' }, EXPIRING)] })
  let asked = 0
  const { client, received } = one(t, url, { token: () => `token ${++asked}` })
  client.connect()
  await until(() => received.updates.length, 'the state')
  const tokens = async () => (await seen())[0].messages.flatMap(({ token }) => token ?? [])
  await until(async () => (await tokens()).length === 2, 'the fresh token')
  await pass(31)
  await until(async () => (await tokens()).length === 3, 'the next, and none between them')
  assert.deepEqual(await tokens(), ['Bearer token 1', 'Bearer token 2', 'Bearer token 3'])
})

test('keeps the connection without a fresh token, until the server closes it', async (t) => {
  const tokens = ['token', null]
  for (const token of ['token', () => tokens.shift(), failingLater()]) {
    const { url, seen } = await script({ websocket: [works(EXPIRING, { send: update(2) })] })
    const { client, received, of } = one(t, url, { token })
    client.connect()
    await until(() => received.updates.length === 2, 'what follows')
    assert.equal((await seen())[0].messages.length, 1)
    assert.equal(of('waiting').length, 0)
    client.close()
  }
})

function failingLater() {
  let asked = 0
  return () => {
    if (asked++) throw new Error('not now')
    return 'token'
  }
}

test('reports errors of callbacks, and carries on', async (t) => {
  const { mock } = t.mock.method(console, 'error', () => {})
  const thrown = () => {
    throw new Error('thrown')
  }
  const all = { onStatus: thrown, onProgress: thrown, onError: thrown, onDeleted: thrown }
  const options = { ...all, onConnected: async () => thrown() }
  const last = { type: 'dream_deleted', dream_id: 'd', timestamp: 1 }
  const messages = [progress(1, 2), { type: 'error', code: 'bad_message', message: '…' }, update(3), last]
  const { url, seen } = await script({ websocket: [works(...messages.map((send) => ({ send })))] })
  const { client, received } = one(t, url, options)
  client.connect()
  await until(async () => (await seen())[0]?.closed, 'the end')
  assert.deepEqual(
    received.updates.map(({ revision }) => revision),
    [1, 3],
  )
  assert.equal(mock.calls.length, 7) // connecting, connected, closed; and the four others
  assert.ok(mock.calls.every(({ arguments: [error] }) => error.message === 'thrown'))
})

test('reports a deleted dream, and stops', async (t) => {
  const deleted = { send: { type: 'dream_deleted', dream_id: 'd', timestamp: 1 } }
  const { url, seen } = await script({ websocket: [works(deleted)] })
  const { client, received, times } = one(t, url)
  client.connect()
  assert.equal((await times(1, 'closed')).code, 1000)
  assert.equal(received.deleted.length, 1)
  await until(async () => (await seen())[0].closed === 1000, 'the server knows')
})

test('ignores a second connect, and can connect again after close', async (t) => {
  const { url, seen } = await script({ websocket: [works()] })
  const { client, received, times } = one(t, url)
  client.connect()
  client.connect()
  await times(1, 'connected')
  client.connect()
  client.close()
  client.close()
  assert.deepEqual(
    received.statuses.map(({ status }) => status),
    ['connecting', 'connected', 'closed'],
  )
  client.connect()
  await times(2, 'connected')
  assert.equal((await seen()).length, 2)
})

for (const moment of ['connecting', 'connected', 'waiting']) {
  test(`closing while received of "${moment}" leaves nothing behind`, async (t) => {
    const { listeners } = page(t)
    const { url, seen } = await script({ websocket: [works({ close: 4102 })] })
    let asked = 0
    const onStatus = (status) => status === moment && client.close()
    const { client, received } = one(t, url, { onStatus, token: () => `${++asked}` })
    client.connect()
    if (moment !== 'connecting') await until(async () => (await seen())[0]?.closed, 'the end')
    await until(() => timers() === 0, 'no timers')
    assert.equal(listeners(), 0)
    assert.equal(asked, moment === 'connecting' ? 0 : 1)
    assert.equal(received.connected.length, moment === 'waiting' ? 1 : 0)
    assert.equal(received.updates.length, moment === 'waiting' ? 1 : 0)
  })
}

test('closing at any time leaves no timer, listener or connection', async (t) => {
  const { listeners } = page(t)
  const moments = {
    'while the token is fetched': [works(), async ({ asked }) => until(asked)],
    'in the handshake': [['stay'], async ({ seen }) => until(async () => (await seen()).length)],
    'before the first message': [
      [AUTHENTICATED],
      async ({ seen }) => until(async () => (await seen())[0]?.messages.length),
    ],
    'while all is well': [works(), async ({ received }) => until(() => received.updates.length)],
    'while waiting': [['drop'], async ({ times }) => times(1, 'waiting')],
  }
  for (const [moment, [turn, reached]] of Object.entries(moments)) {
    const { url, seen } = await script({ websocket: [turn] })
    let asked = false
    let give
    const token = () => {
      asked = true
      return moment === 'while the token is fetched' ? new Promise((resolve) => (give = resolve)) : 'token'
    }
    const { client, received, times } = one(t, url, { token })
    client.connect()
    await reached({ asked: () => asked, seen, received, times })
    assert.equal(listeners(), 2, moment)
    client.close()
    give?.('too late')
    assert.equal(received.statuses.at(-1).status, 'closed')
    assert.equal(listeners(), 0, moment)
    await until(() => timers() === 0, `no timers ${moment}`)
    await until(async () => (await seen()).every(({ closed }) => closed), `no connection ${moment}`)
  }
})

test('stops waiting when the network is back or the page becomes visible', async (t) => {
  const pass = time(t)
  const { online, seen: shown } = page(t)
  const { url } = await script({ websocket: [works({ close: 4102 }), works({ close: 4102 }), works()] })
  const { client, times } = one(t, url)
  client.connect()
  await times(1, 'waiting')
  online()
  await times(2, 'waiting')
  shown('hidden')
  shown('visible')
  await times(3, 'connected')
  await pass(10)
})

test('detects a dead connection when the page becomes visible', async (t) => {
  const pass = time(t)
  const { online, seen: shown } = page(t)
  const answers = { send: { type: 'pong', timestamp: 1 } }
  const { url, seen } = await script({ websocket: [works({ wait: 'ping' }, answers, { send: update(2) }), works()] })
  const { client, received, times, of } = one(t, url)
  client.connect()
  await until(() => received.updates.length === 1, 'the state')
  await pass(1)
  shown('visible')
  await until(() => received.updates.length === 2, 'the answer')
  await pass(6)
  assert.equal(of('waiting').length, 0)
  online()
  await pass(6)
  await times(1, 'waiting')
  assert.equal((await seen())[0].messages.filter(({ type }) => type === 'ping').length, 2)
})
