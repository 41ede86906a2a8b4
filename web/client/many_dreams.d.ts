// Types of many_dreams.js.

import { LiveConnection, type ImageUpdate, type Options, type Token } from './dreamlog'

export class ManyDreamsWebSocketClient extends LiveConnection {
  handleImageUpdate: (message: ImageUpdate) => void
  constructor(authToken: Token, handleImageUpdate: (message: ImageUpdate) => void, options?: Options)
  subscribe(dreamIds: Iterable<string>): void
  unsubscribe(dreamIds: Iterable<string>): void
}
