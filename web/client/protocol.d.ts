// Types of every body and message of the protocol. `make types` writes this file from the server's Structs.

/** The caller's own account. */
export interface Account {
  /** An opaque string. */
  id: string
  /** As the user wrote it at registration. */
  username: string
  /** RFC 3339, in milliseconds. */
  created_at: string
}

/**
 * The access token: the first message, unless the handshake had the `Authorization` header; later, a fresh one.
 *
 * It has no answer of its own. For one dream, `connection_established` follows the first one; for many dreams, send
 * `subscribe` at once. By default the first one must arrive within 10 seconds (`limits.auth_timeout` of
 * `/api/server`).
 */
export interface Authenticate {
  type: 'authenticate'
  /** `Bearer ` may be missing. */
  token: string
}

/** Any message from a client. */
export type ClientMessage = Authenticate | Ping | Subscribe | Unsubscribe

/** A completed image, in short. */
export interface CompletedImage {
  /** Unique within its dream and never used again. New images get theirs in the order of their parts. */
  id: number
  /** Absolute and signed. By default it works for at least a day: read the dream again for a new one. */
  url: string
  /** How many Unicode code points of the content stand before the image: from 0 to its length. */
  position: number
}

/**
 * The server accepts the client, and listens to the dream for it. The dream's state follows at once.
 *
 * It comes once for each dream. Where `subscribe` names the dream again, only the state comes again.
 */
export interface ConnectionEstablished {
  type: 'connection_established'
  /** The dream's id, an opaque string. */
  dream_id: string
  /** Chinese, or English where `Accept-Language` prefers it. */
  message: string
}

/** A dream with its images, as of its `revision`. */
export interface Dream {
  /** The dream's id, an opaque string. */
  id: string
  /** May be empty. */
  title: string
  /** Plain text, exactly as the client sent it. May be empty. */
  content: string
  /** In the offset in which the client sent it. */
  dreamed_at: string
  /** Each once, in the client's order. */
  tags: string[]
  /** A word or a few; null: none. */
  mood: string | null
  /** 0 (not lucid) to 5. */
  lucidity: number | null
  /** `processing` while any image is; then `failed` when every image failed, else `completed`. */
  status: Status
  /** Grows with every change of the dream, and never goes back. */
  revision: number
  /** RFC 3339, in milliseconds. */
  created_at: string
  /** RFC 3339, in milliseconds. */
  updated_at: string
  /** By position, then id. */
  images: Image[]
}

/** The fields that change; the others stay. */
export interface DreamChanges {
  title?: string
  content?: string
  /** With its offset, which is kept. Null: now. Absent in a new dream: now. */
  dreamed_at?: string | null
  /** Null: none. */
  mood?: string | null
  /** 0 (not lucid) to 5. Null: not set. */
  lucidity?: number | null
  /** Spaces around a tag and repeated tags do not count. */
  tags?: string[]
  /** Images that move, each once. The others stay. */
  images?: ImageMove[]
}

/** The dream is gone. A connection for this dream alone closes next. */
export interface DreamDeleted {
  type: 'dream_deleted'
  /** The dream's id, an opaque string. */
  dream_id: string
  /** Unix time in seconds. */
  timestamp: number
}

/** The fields of a dream that a person writes. Only a new dream must have a title, a content or an image. */
export interface DreamFields {
  title?: string
  content?: string
  /** With its offset, which is kept. Null: now. Absent in a new dream: now. */
  dreamed_at?: string | null
  /** Null: none. */
  mood?: string | null
  /** 0 (not lucid) to 5. Null: not set. */
  lucidity?: number | null
  /** Spaces around a tag and repeated tags do not count. */
  tags?: string[]
}

/**
 * A new dream with images, its parts in any order. `tags`, `images` and `positions` are repeated parts.
 *
 * Each part is one value: a JSON array in a part is no list. A form has no null: an empty `dreamed_at`, `mood` or
 * `lucidity` stands for it.
 */
export interface DreamForm {
  title?: string
  content?: string
  /** RFC 3339 with its offset, which is kept. Empty or absent: now. */
  dreamed_at?: string
  /** Empty or absent: none. */
  mood?: string
  /** 0 (not lucid) to 5. Absent: not set. */
  lucidity?: number
  /** An empty part is no tag. */
  tags?: string[]
  /** Files, one part each. The first bytes decide the format, not the file name or media type. */
  images?: Blob[]
  /** One part for each image, in the same order. Without any, the images go to the end. The answer lists images by position, then id. */
  positions?: number[]
}

/** One page of the list of dreams. */
export interface DreamPage {
  /** The latest `dreamed_at` first. */
  items: Dream[]
  /** The `cursor` of the next page; null on the last one. */
  next_cursor: string | null
}

/**
 * Why the server sends an `error`. In brackets: what the WebSocket does next. The event stream ends after each.
 *
 * `message_too_big` (1009): The message is too long.
 *
 * `restarting` (1012 without an `error`): The server is restarting. Try again in a moment.
 *
 * `token_expired` (4101 without an `error`): The token has expired. Reconnect with a new token.
 *
 * `signed_out_elsewhere` (4101 without an `error`): You signed out on another device. Reconnect with a new token.
 *
 * `too_many_connections` (4129): This account has too many connections. Try again later.
 *
 * `rate_limited` (4129): This account sends too many messages. Try again later.
 *
 * `bad_message` (stays open; the fifth closes with 4400): The message is invalid.
 *
 * `unauthenticated` (4401): Send an authenticate message with a token first.
 *
 * `authentication_timeout` (4401): No token arrived in time.
 *
 * `invalid_token` (4401): The token is invalid, expired or revoked.
 *
 * `wrong_user` (4401): The token belongs to another user.
 *
 * `signed_out` (4401): You have signed out.
 *
 * `not_found` (4403 on the channel of one dream, stays open on that of many): There is no such dream.
 *
 * `too_many_dreams` (stays open): One connection may subscribe to at most 1000 dreams.
 */
export type ErrorCode =
  | 'message_too_big'
  | 'restarting'
  | 'token_expired'
  | 'signed_out_elsewhere'
  | 'too_many_connections'
  | 'rate_limited'
  | 'bad_message'
  | 'unauthenticated'
  | 'authentication_timeout'
  | 'invalid_token'
  | 'wrong_user'
  | 'signed_out'
  | 'not_found'
  | 'too_many_dreams'

/** Something the client did was wrong, or the connection ends for the reason given. */
export interface ErrorMessage {
  type: 'error'
  code: ErrorCode
  /** A sentence for people, in Chinese or English. */
  message: string
  /** The dream that the error is about. */
  dream_id?: string
  /** Seconds after which to reconnect. */
  retry_after?: number
}

/** A failed image, in short. */
export interface FailedImage {
  /** Unique within its dream and never used again. New images get theirs in the order of their parts. */
  id: number
  /** How many Unicode code points of the content stand before the image: from 0 to its length. */
  position: number
  error: ImageError
}

/**
 * Why an image has failed.
 *
 * `corrupt`: The image is damaged and cannot be read.
 *
 * `too_many_pixels`: The image has too many pixels.
 *
 * `too_many_frames`: The animation has too many frames.
 *
 * `unsupported`: The format of the image is not supported.
 *
 * `timed_out`: The image took too long to process.
 *
 * `out_of_memory`: The image needs more memory than the server allows.
 *
 * `crashed`: Something went wrong while the image was processed.
 *
 * `storage_unavailable`: The image could not be stored.
 *
 * `upload_lost`: The uploaded file is no longer on the server.
 */
export type FailureCode =
  | 'corrupt'
  | 'too_many_pixels'
  | 'too_many_frames'
  | 'unsupported'
  | 'timed_out'
  | 'out_of_memory'
  | 'crashed'
  | 'storage_unavailable'
  | 'upload_lost'

/** One mistake in what the client sent. */
export interface FieldError {
  /** The field or parameter as the client sent it, with an index or a path where it has parts: `positions[0]`, `images[2].position`. `body` is the body as a whole. */
  field: string
  /** What is wrong and what is allowed, for people, in the language of `Accept-Language`. */
  message: string
}

/** A format that the server accepts. */
export interface Format {
  name: string
  /** Media type. */
  type: string
  /** Width times height of an image, at most. */
  max_pixels: number
}

/** The process answers. */
export interface Health {
  status: 'alive'
}

/**
 * Sent every 25 seconds for each dream.
 *
 * A client that hears nothing for 60 seconds reconnects. A revision above the client's own means that it has missed
 * a change.
 */
export interface Heartbeat {
  type: 'heartbeat'
  /** The dream's id, an opaque string. */
  dream_id: string
  /** Grows with every change of the dream, and never goes back. */
  revision: number
  /** Unix time in seconds. */
  timestamp: number
}

/** One image of a dream. A value that is not known yet is null. */
export interface Image {
  /** Unique within its dream and never used again. New images get theirs in the order of their parts. */
  id: number
  /** How many Unicode code points of the content stand before the image: from 0 to its length. */
  position: number
  status: Status
  /** The largest variant, once the image is completed. */
  url: string | null
  /** By name: the most pixels that the longer side may have. A smaller original is not enlarged. Empty until the image is completed. */
  variants: Record<string, Variant>
  /** Of the upright original, in pixels. */
  width: number | null
  /** Of the upright original, in pixels. */
  height: number | null
  /** Whether the original is an animation; false until that is known. */
  animated: boolean
  /** A data URL of at most 400 bytes to show while the image loads. */
  placeholder: string | null
  /** 1 at first; each further try adds 1. */
  attempt: number
  /** Set when `status` is `failed`. */
  error: ImageError | null
}

/** Why an image has failed. */
export interface ImageError {
  code: FailureCode
  /** A sentence for people. */
  message: string
  /** Whether another try can help. It is advice: the server retries any failed image. */
  retryable: boolean
}

/** A new place for an image. */
export interface ImageMove {
  /** Unique within its dream and never used again. New images get theirs in the order of their parts. */
  id: number
  /** How many Unicode code points of the content stand before the image: from 0 to its length. */
  position: number
}

/**
 * One image is completed or has failed.
 *
 * After that of the last image, an `image_update` of the same `revision` follows; after that of any other, none does.
 */
export interface ImageProgress {
  type: 'image_progress'
  /** The dream's id, an opaque string. */
  dream_id: string
  image: Image
  /** Images that are completed or have failed. */
  done: number
  /** Images of the dream. */
  total: number
  /** Grows with every change of the dream, and never goes back. */
  revision: number
  /** Unix time in seconds. */
  timestamp: number
}

/**
 * The dream's state: at first, after each change but the end of an image, and after the end of the last image.
 *
 * While `status` is `processing`, `images` is empty: keep what is shown, also during a retry. A client that joins
 * midway reads the dream for the images that have ended already. Any other `status` is the end of the processing.
 * An edit of texts arrives as this message too: when `revision` rises without an `image_progress`, read the dream.
 */
export interface ImageUpdate {
  type: 'image_update'
  /** The dream's id, an opaque string. */
  dream_id: string
  status: Status
  /** The completed images by position, then id; empty while any image is processing. */
  images: CompletedImage[]
  /** Unix time in seconds. */
  timestamp: number
  /** Grows with every change of the dream, and never goes back. */
  revision: number
  /** The failed images by position, then id. Present once no image is processing. */
  failed_images?: FailedImage[]
}

/** Images for a dream that exists. `images` and `positions` are repeated parts, in any order. */
export interface ImagesForm {
  /** Files, one part each. The first bytes decide the format, not the file name or media type. */
  images: Blob[]
  /** One part for each image, in the same order. Without any, the images go to the end. The answer lists images by position, then id. */
  positions?: number[]
}

/** What the server accepts at most. Lengths are in Unicode code points. */
export interface Limits {
  /** Length of a dream's title. */
  title_length: number
  /** Length of a dream's content. */
  content_length: number
  /** Length of a dream's mood. */
  mood_length: number
  /** Length of one tag. */
  tag_length: number
  /** Tags of a dream. */
  tags: number
  /** The highest; the lowest is 0. */
  lucidity: number
  /** Images of a dream. */
  images: number
  /** Size of one image's file. */
  image_bytes: number
  /** Size of one upload in all. */
  request_bytes: number
  /** Frames of an animation. */
  frames: number
  /** Length of a username. */
  username_length: number
  /** Length of a password. */
  password_length: number
  /** The least that a password must have. */
  password_min_length: number
  /** Dreams on a page. */
  page: number
  /** Seconds that a read may wait. */
  wait: number
  /** Dreams on one WebSocket. */
  subscriptions: number
  /** Size of one message to the server. */
  message_bytes: number
  /** Seconds in which a WebSocket's first `authenticate` must arrive. */
  auth_timeout: number
}

/** A username and a password. */
export interface Login {
  /** Spaces around it do not count. No control characters. */
  username: string
  /** Any characters, compared in Unicode's form NFKC. */
  password: string
}

/** Asks for a `pong`. No client has to send it. */
export interface Ping {
  type: 'ping'
  /** Any number. */
  timestamp: number
}

/** The answer to a `ping`. */
export interface Pong {
  type: 'pong'
  /** The number of the `ping`, unchanged. */
  timestamp: number
}

/** Why a request was refused (RFC 9457). */
export interface Problem {
  /** `about:blank`. More types may come, each with a section of `/docs`. */
  type: string
  title: string
  /** The status of the answer. */
  status: number
  /** What was wrong, and what is allowed. */
  detail: string
  /** The mistakes in the input, in a 422 about fields. */
  errors?: FieldError[]
}

/** Whether each part of the server can take work. */
export interface Ready {
  /** `ready` when every part is `ok`. */
  status: 'not ready' | 'ready'
  /** Unavailable while it stops. */
  server: 'ok' | 'unavailable'
  /** Whether MongoDB answers. */
  database: 'ok' | 'unavailable'
  /** Whether the file storage answers. */
  storage: 'ok' | 'unavailable'
  /** Whether the server can process images. */
  workers: 'ok' | 'unavailable'
}

/** The refresh token, for clients that do not keep the cookie. */
export interface Refresh {
  /** Without it, the server reads the cookie. */
  refresh?: string | null
}

/** The facts that a client needs before anybody signs in. */
export interface Server {
  name: 'Dreamlog'
  version: string
  /** Whether new accounts can be made. */
  registration: 'closed' | 'open'
  formats: Format[]
  limits: Limits
}

/** Any message from the server. */
export type ServerMessage =
  ConnectionEstablished | ImageUpdate | ImageProgress | Heartbeat | DreamDeleted | TokenExpiring | ErrorMessage | Pong

/** The user who has signed in, and the tokens of the session. */
export interface Session {
  /** Sent as `Authorization: Bearer <access>`. */
  access: string
  /** Usable once. Using it again ends the session. */
  refresh: string
  /** Seconds until the access token expires. */
  expires_in: number
  user: User
}

/** The status of an image or a dream that clients see. */
export type Status = 'completed' | 'failed' | 'processing'

/**
 * Listen to these dreams too, in the channel of many dreams.
 *
 * For each dream the server answers with `connection_established` and the dream's state, or with an `error`.
 */
export interface Subscribe {
  type: 'subscribe'
  dream_ids: string[]
}

/** The token expires soon: send `authenticate` with a new one. */
export interface TokenExpiring {
  type: 'token_expiring'
  /** Seconds. */
  expires_in: number
}

/** A new pair of tokens. The refresh token also comes as an HttpOnly cookie. */
export interface Tokens {
  /** Sent as `Authorization: Bearer <access>`. */
  access: string
  /** Usable once. Using it again ends the session. */
  refresh: string
  /** Seconds until the access token expires. */
  expires_in: number
}

/** Listen to these dreams no longer. It has no answer. */
export interface Unsubscribe {
  type: 'unsubscribe'
  dream_ids: string[]
}

/** A user. */
export interface User {
  /** An opaque string. */
  id: string
  /** As the user wrote it at registration. */
  username: string
}

/** One rendered size of an image. */
export interface Variant {
  /** Absolute and signed. By default it works for at least a day: read the dream again for a new one. */
  url: string
  /** Media type. */
  type: string
  /** Pixels. */
  width: number
  /** Pixels. */
  height: number
  /** Size of the file. */
  bytes: number
}
