// Types of dreamlog.js, and of the messages of the protocol.

export interface ImageError {
  code: string
  message: string
  retryable: boolean
}

export interface Variant {
  url: string
  type: string
  width: number
  height: number
  bytes: number
}

/** One picture of a dream. */
export interface Image {
  id: number
  /** The number of Unicode code points of the text before it. */
  position: number
  status: 'processing' | 'completed' | 'failed'
  url: string | null
  variants: Record<string, Variant>
  width: number | null
  height: number | null
  animated: boolean
  placeholder: string | null
  attempt: number
  error: ImageError | null
}

export interface ConnectionEstablished {
  type: 'connection_established'
  dream_id: string
  message: string
}

/** The state of the dream. `images` are the completed ones; empty while any picture is processing. */
export interface ImageUpdate {
  type: 'image_update'
  dream_id: string
  status: 'processing' | 'completed' | 'failed'
  images: { id: number; url: string; position: number }[]
  /** Unix seconds, here and below. */
  timestamp: number
  revision: number
  failed_images?: { id: number; position: number; error: ImageError }[]
}

/** One picture has completed or failed. */
export interface ImageProgress {
  type: 'image_progress'
  dream_id: string
  image: Image
  done: number
  total: number
  revision: number
  timestamp: number
}

export interface Heartbeat {
  type: 'heartbeat'
  dream_id: string
  revision: number
  timestamp: number
}

export interface DreamDeleted {
  type: 'dream_deleted'
  dream_id: string
  timestamp: number
}

export interface TokenExpiring {
  type: 'token_expiring'
  /** Seconds. */
  expires_in: number
}

export interface Pong {
  type: 'pong'
  timestamp: number
}

export interface ErrorMessage {
  type: 'error'
  code: string
  message: string
  dream_id?: string
  /** Seconds. */
  retry_after?: number
}

export type Message =
  ConnectionEstablished | ImageUpdate | ImageProgress | Heartbeat | DreamDeleted | TokenExpiring | Pong | ErrorMessage

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
