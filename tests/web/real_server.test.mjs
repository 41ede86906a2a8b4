// The client library and the server, together. A POST to `RESTART_URL` restarts the server, and is answered after that.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { many, one, person, through, time, timers, until, withoutWebSockets } from './harness.mjs'

const { SERVER_URL, RESTART_URL } = process.env

/** How to connect by this carrier, and how to let the time pass that it takes for news. */
function by(carrier, t) {
  if (carrier === 'websocket') return { connect: ({ client }) => client.connect(), passes: () => {} }
  withoutWebSockets(t)
  const pass = time(t)
  const connect = async ({ client, times }) => {
    client.connect()
    await through(times, pass)
  }
  return { connect, passes: () => pass(1) }
}

for (const carrier of ['websocket', 'events']) {
  test(`a picture from its upload to its place, and the end of its dream, by ${carrier}`, async (t) => {
    const { connect } = by(carrier, t)
    const ada = await person()
    const { id } = await ada.write('t')
    const live = one(t, SERVER_URL, { token: ada.access, dreamId: id })
    const { received, times, of } = live
    await connect(live)
    await until(() => received.updates.length === 1, 'the state')
    assert.equal(of('connected')[0].carrier, carrier)
    await ada.addPicture(id)
    await until(() => received.updates.at(-1).images.length === 1, 'the picture')
    const [before, ...during] = received.updates.map(({ status }) => status)
    assert.equal(before, 'completed')
    assert.equal(during.pop(), 'completed')
    assert.deepEqual([...new Set(during)], ['processing'])
    assert.deepEqual(
      received.progress.map(({ image, done, total }) => [image.status, done, total]),
      [['completed', 1, 1]],
    )
    assert.equal(received.progress[0].revision, received.updates.at(-1).revision)
    assert.equal((await fetch(received.updates.at(-1).images[0].url)).status, 200)
    await ada.call('DELETE', `/api/dreams/${id}`)
    assert.equal((await times(1, 'closed')).code, 1000)
    assert.equal(received.deleted.length, 1)
    assert.equal(timers(), 0)
  })

  test(`many dreams by ${carrier}`, async (t) => {
    const { connect, passes } = by(carrier, t)
    const [ada, bob] = [await person(), await person()]
    const ids = []
    for (const title of ['a', 'b', 'c']) ids.push((await ada.write(title)).id)
    const theirs = (await bob.write('t')).id
    const live = many(t, SERVER_URL, { token: ada.access })
    const { client, received, of } = live
    client.subscribe([...ids, theirs])
    await connect(live)
    await until(() => received.updates.length === 3 && received.errors.length === 1, 'the states')
    assert.equal(of('connected')[0].carrier, carrier)
    assert.deepEqual(
      received.errors.map(({ code, dream_id }) => [code, dream_id]),
      [['not_found', theirs]],
    )
    client.unsubscribe([ids[2]])
    await ada.rename(ids[2], 'not received')
    await ada.call('DELETE', `/api/dreams/${ids[1]}`)
    await ada.rename(ids[0], 'received')
    await until(async () => {
      await passes()
      return received.updates.length === 4 && received.deleted.length === 1
    }, 'the news')
    assert.equal(received.updates[3].dream_id, ids[0])
    assert.equal(received.deleted[0].dream_id, ids[1])
  })

  test(`refusals end it, and so does signing out, by ${carrier}`, async (t) => {
    const { connect } = by(carrier, t)
    const [ada, bob] = [await person(), await person()]
    const { id } = await ada.write('t')
    const refused = [
      [{ token: 'x.y.z', dreamId: id }, 4401],
      [{ token: bob.access, dreamId: id }, 4403],
      [{ token: ada.access, dreamId: 'no-such-dream' }, 4403],
    ]
    for (const [options, code] of refused) {
      const live = one(t, SERVER_URL, options)
      await connect(live)
      assert.equal((await live.times(1, 'closed')).code, code)
    }
    const live = one(t, SERVER_URL, { token: ada.access, dreamId: id })
    await connect(live)
    await until(() => live.received.updates.length, 'the state')
    await ada.call('POST', '/api/auth/logout')
    assert.equal((await live.times(1, 'closed')).code, 4401)
  })
}

test('survives a restart of the server, and reports the changes meanwhile', async (t) => {
  const ada = await person()
  const { id } = await ada.write('t')
  const token = () => ada.access
  const all = [one(t, SERVER_URL, { token, dreamId: id }), many(t, SERVER_URL, { token })]
  all[1].client.subscribe([id])
  for (const { client, times } of all) {
    client.connect()
    await times(1, 'connected')
  }
  await fetch(RESTART_URL, { method: 'POST' })
  await ada.token()
  await ada.rename(id, 'received')
  for (const { received, times, of } of all) {
    await times(2, 'connected')
    await until(() => received.updates.length === 2, 'both states')
    assert.equal(of('waiting')[0].code, 1012)
  }
})
