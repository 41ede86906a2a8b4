// Types of dreamlog.js. Those of the messages are in protocol.d.ts.

import type {
  ConnectionEstablished,
  DreamDeleted,
  ErrorMessage,
  ImageProgress,
  ImageUpdate,
  ServerMessage as Message,
} from './protocol'

export type {
  ConnectionEstablished,
  DreamDeleted,
  ErrorMessage,
  Heartbeat,
  Image,
  ImageError,
  ImageProgress,
  ImageUpdate,
  Pong,
  ServerMessage as Message,
  TokenExpiring,
  Variant,
} from './protocol'

/** An access token, or a function that returns a fresh one. The client stops when it returns none. */
export type Token = string | (() => string | null | undefined | Promise<string | null | undefined>)

export type Status = 'connecting' | 'connected' | 'waiting' | 'closed'

export interface StatusDetail {
  /** When connected: the transport in use. */
  carrier?: 'websocket' | 'events'
  /** When waiting or closed: the close code; 0 when unknown. */
  code?: number
  /** When waiting: seconds until the next attempt. */
  retryIn?: number
}

export interface Options {
  /** The server, as `https://dreams.example.org`; by default the origin of the page. */
  url?: string
  onConnected?(message: ConnectionEstablished): void
  /** Called when a picture has completed or failed. */
  onProgress?(message: ImageProgress): void
  onDeleted?(message: DreamDeleted): void
  onError?(message: ErrorMessage): void
  onStatus?(status: Status, detail: StatusDetail): void
  /** For runtimes without WebSocket: Node before version 22. */
  WebSocket?: typeof WebSocket
  fetch?: typeof fetch
}

/** The base class of both clients. */
export class LiveConnection {
  readonly authToken: Token
  readonly options: Options
  readonly base: string
  constructor(authToken: Token, options: Options)
  connect(): void
  close(): void
  get path(): string
  handleMessage(message: Message): void
  handleOpen(): void
  fallback(token: string, signal: AbortSignal, deliver: (message: Message | null) => void): Promise<void>
  send(message: object): void
  reconnect(): void
  get(path: string, token: string, signal: AbortSignal): Promise<Response>
  invoke(callback: ((...args: any[]) => unknown) | undefined, ...args: unknown[]): Promise<void>
}

export class DreamState {
  get updateRevision(): number
  get revision(): number
  accept(message: ImageUpdate | ImageProgress): boolean
}

export class DreamImageWebSocketClient extends LiveConnection {
  readonly dreamId: string
  handleImageUpdate: (message: ImageUpdate) => void
  constructor(dreamId: string, authToken: Token, handleImageUpdate: (message: ImageUpdate) => void, options?: Options)
}

export function after(milliseconds: number, signal: AbortSignal, work: () => void): void
