// Types that the page's modules share. Those of the API are in client/protocol.d.ts.

import type { Dream, Image, ImageError } from './client/protocol'

export type { Dream, Image, User, Variant } from './client/protocol'

/** Why a picture failed; a code of its own where the server has not said it. */
export type Failure = Omit<ImageError, 'code'> & { code: string }

/** What a person writes of a dream; `dreamed_at` with the UTC offset of the dreamer. */
export type DreamFields = Pick<Dream, 'title' | 'content' | 'dreamed_at' | 'mood' | 'lucidity' | 'tags'>

/** A picture on this device that is not uploaded yet. */
export interface Photo {
  key: string
  width: number | null
  height: number | null
}

export interface PlacedPhoto extends Photo {
  position: number
}

/** The editor alternates text and picture blocks, with text at both ends. */
export type Block = { text: string } | { photo: Photo } | { image: Image }

export interface Draft {
  key: string
  user: string
  /** The dream that the draft changes; null for a new dream. */
  dreamId: string | null
  fields: Omit<DreamFields, 'content'>
  blocks: Block[]
  changedAt: number
}

export interface Problem {
  status: number
  detail: string
}

interface Sent {
  /** The order of sending, assigned by the database. */
  seq?: number
  key: string
  user: string
  state: 'waiting' | 'stopped'
  problem: Problem | null
  /** The entry is not sent before this time (Unix milliseconds), so that the user can undo it. */
  notBefore: number
}

export interface Create extends Sent {
  kind: 'create'
  fields: DreamFields
  photos: PlacedPhoto[]
}

export interface Change extends Sent {
  kind: 'change'
  dreamId: string
  fields: Partial<DreamFields>
  positions: { id: number; position: number }[]
  photos: PlacedPhoto[]
  /** Ids of pictures to delete, after `photos` are uploaded. */
  remove: number[]
}

export interface Delete extends Sent {
  kind: 'delete'
  dreamId: string
}

/** An unsent change. */
export type Entry = Create | Change | Delete

export interface Progress {
  sent: number
  total: number
}

/** A picture as the page shows it: from the server, or still uploading. */
export interface ShownImage extends Omit<Image, 'status'> {
  status: Image['status'] | 'uploading'
  /** An object URL on this device, shown until the server's picture is ready. */
  preview: string | null
  /** The same from the first preview to the completed picture. */
  key: string
}

/** A dream with its unsent changes. */
export interface ShownDream extends Omit<Dream, 'images'> {
  images: ShownImage[]
  pending: Entry | null
}

export interface View {
  element: HTMLElement
  title: string
  close(): void
  /** The view is hidden, and may be shown again. */
  pause?(): void
  /** The view is shown again. */
  resume?(): void
}
