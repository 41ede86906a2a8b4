// The client library and a server whose tokens last two seconds.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { one, person, until } from './harness.mjs'

test('replaces expiring tokens, on the same connection or the next one', async (t) => {
  const ada = await person()
  const { id } = await ada.write('t')
  const { client, received, of } = one(t, process.env.SERVER_URL, { token: () => ada.token(), dreamId: id })
  client.connect()
  await until(() => of('connected').length > 1, 'the second connection')
  const [{ code, retryIn }] = of('waiting')
  assert.deepEqual([code, retryIn], [4101, 0])
  assert.ok(ada.refreshed <= 2 * of('connecting').length)
  await ada.token()
  await ada.rename(id, 'received')
  await until(() => received.updates.length === 2, 'the update')
})
