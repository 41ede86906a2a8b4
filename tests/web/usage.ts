// The client library as a TypeScript project uses it. This file never runs: `make check` tests that it compiles, and that
// each line below a `@ts-expect-error` would not.

import {
  DreamImageWebSocketClient,
  type ImageUpdate,
  type Message,
  type Options,
  type Status,
} from '../../web/client/dreamlog.js'
import { DreamImageWebSocketClient as ByItsFirstName } from '../../web/frontend_example.js'
import { ManyDreamsWebSocketClient } from '../../web/client/many_dreams.js'

/** `type` distinguishes the messages. Without one of these cases, the function would not return a string. */
export function sentence(message: Message): string {
  switch (message.type) {
    case 'connection_established':
      return message.message
    case 'image_update':
      return `${message.status}: ${message.images.map(({ url, position }) => `${url} at ${position}`).join()}`
    case 'image_progress':
      return `${message.done} of ${message.total}: ${message.image.variants['1024']?.url ?? message.image.error?.message}`
    case 'heartbeat':
      return `${message.dream_id} is at ${message.revision}`
    case 'dream_deleted':
      return `${message.dream_id} was deleted`
    case 'token_expiring':
      return `${message.expires_in} s left`
    case 'pong':
      return `${message.timestamp}`
    case 'error':
      return `${message.code}: ${message.message} ${message.retry_after ?? ''}`
  }
}

export function failures({ failed_images = [] }: ImageUpdate): string[] {
  return failed_images.map(({ error }) => (error.retryable ? 'try again' : error.message))
}

const words: Record<Status, string> = { connecting: '…', connected: 'live', waiting: 'soon again', closed: 'over' }
const options: Options = {
  url: 'https://dreams.example.org',
  onConnected: ({ message }) => console.log(message),
  onProgress: ({ image }) => console.log(image.url?.length),
  onDeleted: ({ dream_id }) => console.log(dream_id),
  onError: ({ code, message }) => console.log(code, message),
  onStatus: (status, { carrier, code, retryIn }) => console.log(words[status], carrier === 'events', code, retryIn),
  WebSocket,
  fetch,
}

const one = new DreamImageWebSocketClient(
  'id',
  async () => 'token',
  (message) => console.log(sentence(message)),
  options,
)
one.connect()
one.close()
export const sameClient: typeof DreamImageWebSocketClient = ByItsFirstName
const many = new ManyDreamsWebSocketClient('token', ({ dream_id }) => console.log(dream_id))
many.subscribe(new Set(['id']))
many.unsubscribe(['id'])
many.connect()

// @ts-expect-error: the id of a dream is a string
new DreamImageWebSocketClient(null, 'token', () => {})
// @ts-expect-error: the handler is required
new DreamImageWebSocketClient('id', 'token')
// @ts-expect-error: there is no such option
new DreamImageWebSocketClient('id', 'token', () => {}, { onUpdate() {} })
// @ts-expect-error: the handler receives updates, not all messages
new ManyDreamsWebSocketClient('token', ({ done }) => console.log(done))
// @ts-expect-error: only the client for many dreams subscribes
one.subscribe(['id'])
