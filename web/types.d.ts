// What the page's modules pass around. The API's own shapes are in docs/api.md.

export interface User {
  id: string
  username: string
}

export interface Variant {
  url: string
  type: string
  width: number
  height: number
  bytes: number
}

export interface Failure {
  code: string
  message: string
  retryable: boolean
}

/** One picture as the server shows it. */
export interface Image {
  id: number
  position: number
  status: 'processing' | 'completed' | 'failed'
  url: string | null
  variants: Record<string, Variant>
  width: number | null
  height: number | null
  animated: boolean
  placeholder: string | null
  attempt: number
  error: Failure | null
}

export interface DreamFields {
  title: string
  content: string
  /** RFC 3339 with the offset of the dreamer's clock. */
  dreamed_at: string
  mood: string | null
  lucidity: number | null
  tags: string[]
}

export interface Dream extends DreamFields {
  id: string
  status: 'processing' | 'completed' | 'failed'
  revision: number
  created_at: string
  updated_at: string
  images: Image[]
}

/** A picture that is still on this device. */
export interface Photo {
  key: string
  width: number | null
  height: number | null
}

export interface PlacedPhoto extends Photo {
  position: number
}

/** What the editor holds: text, picture, text, ... and text at both ends. */
export type Block = { text: string } | { photo: Photo } | { image: Image }

export interface Draft {
  key: string
  user: string
  /** The dream that is being changed; null for a new one. */
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
  /** Order of sending; given by the database. */
  seq?: number
  key: string
  user: string
  state: 'waiting' | 'stopped'
  problem: Problem | null
  /** Unix milliseconds before which it is not sent, so that it can be undone. */
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
  /** Pictures that go; they leave after `photos` have come. */
  remove: number[]
}

export interface Delete extends Sent {
  kind: 'delete'
  dreamId: string
}

/** Something written here that the server does not have yet. */
export type Entry = Create | Change | Delete

export interface Progress {
  sent: number
  total: number
}

/** A picture as it is shown: the server's, or one that is still on its way there. */
export interface ShownImage extends Omit<Image, 'status'> {
  status: Image['status'] | 'uploading'
  /** Where this device shows it from until the server's own is there. */
  preview: string | null
  /** Stays the same from the first preview to the finished picture. */
  key: string
}

/** A dream with what was written here and not sent yet. */
export interface ShownDream extends Omit<Dream, 'images'> {
  images: ShownImage[]
  pending: Entry | null
}

export interface View {
  element: HTMLElement
  title: string
  close(): void
  /** Another view is shown in its place, for a while. */
  pause?(): void
  /** It is shown again. */
  resume?(): void
}
