// @ts-check
// All texts of the page in English and Chinese, and the formats of dates.

import { setting } from './settings.js'

/**
 * @typedef {keyof typeof ENGLISH} Word
 * @typedef {string | {one: string, other: string}} Text
 */

const ENGLISH = {
  name: 'Dreamlog',
  tagline: 'A journal for your dreams',
  username: 'Username',
  password: 'Password',
  password_rule: 'Use at least {n} characters.',
  sign_in: 'Sign in',
  sign_up: 'Create account',
  sign_out: 'Sign out',
  to_sign_up: 'New here? Create an account',
  to_sign_in: 'Already have an account? Sign in',
  wrong_password: 'Incorrect username or password.',
  name_taken: 'This username is taken. Try another one.',
  no_new_accounts: 'This server does not accept new accounts.',
  too_many_attempts: {
    one: 'Too many attempts. Try again in {n} minute.',
    other: 'Too many attempts. Try again in {n} minutes.',
  },
  unreachable: 'Cannot reach the server. Check your connection and try again.',
  no_storage:
    'Your browser does not let this page store data, so drafts cannot be saved. Leave private browsing, or allow storage in the browser settings.',
  something_wrong: 'Something went wrong: {detail}',
  write: 'New dream',
  journal: 'Journal',
  settings: 'Settings',
  language: 'Language',
  theme: 'Appearance',
  theme_system: 'System',
  theme_dark: 'Dark',
  theme_light: 'Light',
  close: 'Close',
  cancel: 'Cancel',
  delete_account: 'Delete account',
  delete_account_sure:
    'This permanently deletes all dreams and pictures of {name} from the server and from this device. Type the username to confirm.',
  unsent_stays: 'Unsent changes stay on this device until you sign in again.',
  search: 'Search dreams',
  tags: 'Tags',
  night_of: 'Night of {date}',
  no_dreams: 'No dreams yet.',
  no_dreams_hint: 'Dreams fade within minutes of waking. Write down what you remember; a few words are enough.',
  nothing_found: 'No dreams match.',
  show_all: 'Show all dreams',
  loading: 'Loading…',
  load_more: 'Show more',
  offline: 'Offline: showing dreams saved on this device. What you write will be sent later.',
  untitled: 'Untitled',
  title: 'Title',
  title_hint: 'Title (optional)',
  text: 'What did you dream?',
  text_more: 'Text after the picture',
  when: 'Date and time',
  mood: 'Mood',
  lucidity: 'Lucidity',
  lucidity_0: 'Not lucid',
  lucidity_1: 'Barely lucid',
  lucidity_2: 'Somewhat lucid',
  lucidity_3: 'Half lucid',
  lucidity_4: 'Mostly lucid',
  lucidity_5: 'Fully lucid',
  lucidity_none: 'Not set',
  lucid: 'Lucidity {n}/5',
  tags_hint: 'Type a tag and press Enter',
  remove_tag: 'Remove tag {tag}',
  add_photo: 'Add pictures',
  take_photo: 'Take a photo',
  drop_here: 'Drop to add the pictures here',
  save: 'Save',
  draft_saved: 'Draft saved on this device',
  saving_draft: 'Saving draft…',
  draft_not_saved: 'Could not save the draft on this device. It may be out of space.',
  discard: 'Discard draft',
  discarded: 'Draft discarded.',
  undo: 'Undo',
  edit: 'Edit',
  edit_title: 'Edit dream',
  delete: 'Delete',
  deleted: 'Dream deleted.',
  saved: 'Changes saved.',
  draft: 'Draft',
  drafts: 'Drafts',
  nothing_written: 'Write something or add a picture first.',
  too_long: 'The text is too long: {n} characters, and the limit is {most}.',
  too_many_tags: 'A dream can have up to {n} tags.',
  not_a_picture: '{name} is not a picture.',
  picture: 'Picture {n} of {total}',
  picture_number: 'Picture {n}',
  pictures: 'Pictures',
  move_up: 'Move picture up',
  move_down: 'Move picture down',
  remove_picture: 'Remove picture',
  picture_removed: 'Picture removed.',
  uploading: 'Uploading',
  sending: 'Sending…',
  uploading_bytes: 'Uploading: {sent} of {total}',
  waiting_to_send: 'Waiting for a connection. This is sent automatically.',
  not_sent: 'Not sent: {detail}',
  back_to_draft: 'Back to editing',
  stop_upload: 'Stop and edit',
  retry: 'Try again',
  processing: 'Processing',
  processing_count: { one: 'Processing the picture…', other: 'Processing pictures: {done} of {n} ready' },
  processing_long: 'This is taking longer than usual. Processing continues even if you close the page.',
  picture_ready: 'Picture {n} is ready.',
  pictures_ready: 'All pictures are ready.',
  picture_failed: 'Picture {n} failed: {detail}',
  cannot_show: 'This picture cannot be loaded right now.',
  view_large: 'Enlarge picture {n}',
  previous: 'Previous picture',
  next: 'Next picture',
  of: '{n} / {total}',
  calendar: 'Calendar',
  previous_month: 'Previous month',
  next_month: 'Next month',
  dreams_on: { one: '{date}: {n} dream', other: '{date}: {n} dreams' },
  no_such_dream: 'This dream does not exist. It may have been deleted.',
  deleted_elsewhere: 'This dream was deleted on another device.',
  not_here: 'This dream is not saved on this device, and the server cannot be reached.',
  new_version: 'A new version is available.',
  reload: 'Reload',
  skip: 'Skip to content',
  calm: 'Calm',
  joyful: 'Joyful',
  curious: 'Curious',
  strange: 'Strange',
  sad: 'Sad',
  frightening: 'Frightening',
  corrupt: 'The file is damaged and cannot be read.',
  too_many_pixels: 'The picture has more pixels than this server accepts.',
  too_many_frames: 'The animation has more frames than this server accepts.',
  unsupported: 'This picture format is not supported.',
  timed_out: 'Processing took too long.',
  out_of_memory: 'Processing needed too much memory.',
  crashed: 'Processing stopped unexpectedly.',
  storage_unavailable: 'The picture could not be stored.',
  upload_lost: 'The server no longer has this file. Upload the picture again.',
}

/** @type {Record<Word, Text>} */
const CHINESE = {
  name: 'Dreamlog',
  tagline: '记录每一夜的梦',
  username: '用户名',
  password: '密码',
  password_rule: '请使用至少 {n} 个字符。',
  sign_in: '登录',
  sign_up: '注册',
  sign_out: '退出登录',
  to_sign_up: '还没有账号？立即注册',
  to_sign_in: '已有账号？去登录',
  wrong_password: '用户名或密码错误。',
  name_taken: '该用户名已被占用，请换一个。',
  no_new_accounts: '此服务器未开放注册。',
  too_many_attempts: '尝试次数过多，请在 {n} 分钟后重试。',
  unreachable: '无法连接服务器，请检查网络后重试。',
  no_storage: '浏览器不允许本页面存储数据，因此无法保存草稿。请退出无痕模式，或在浏览器设置中允许存储数据。',
  something_wrong: '出错了：{detail}',
  write: '记录梦境',
  journal: '梦境日记',
  settings: '设置',
  language: '语言',
  theme: '外观',
  theme_system: '跟随系统',
  theme_dark: '深色',
  theme_light: '浅色',
  close: '关闭',
  cancel: '取消',
  delete_account: '注销账号',
  delete_account_sure: '{name} 的所有梦境和图片将从服务器和本设备上永久删除，无法恢复。请输入用户名以确认。',
  unsent_stays: '尚未发送的内容会保留在本设备上，待你重新登录后发送。',
  search: '搜索梦境',
  tags: '标签',
  night_of: '{date}的梦',
  no_dreams: '还没有记录过梦境。',
  no_dreams_hint: '醒来几分钟后，梦就会淡去。趁还记得，写下几个字就好。',
  nothing_found: '没有找到相关的梦。',
  show_all: '显示全部梦境',
  loading: '正在加载…',
  load_more: '加载更多',
  offline: '当前离线，显示的是本设备上保存的内容。你写下的内容会在恢复连接后发送。',
  untitled: '无标题',
  title: '标题',
  title_hint: '标题（选填）',
  text: '你梦见了什么？',
  text_more: '图片后的文字',
  when: '日期和时间',
  mood: '心情',
  lucidity: '清醒梦程度',
  lucidity_0: '不清醒',
  lucidity_1: '略微清醒',
  lucidity_2: '有些清醒',
  lucidity_3: '半清醒',
  lucidity_4: '大致清醒',
  lucidity_5: '完全清醒',
  lucidity_none: '未设置',
  lucid: '清醒梦程度 {n}/5',
  tags_hint: '输入标签，按回车添加',
  remove_tag: '移除标签 {tag}',
  add_photo: '添加图片',
  take_photo: '拍照',
  drop_here: '松开即可在此处添加图片',
  save: '保存',
  draft_saved: '草稿已保存到本设备',
  saving_draft: '正在保存草稿…',
  draft_not_saved: '草稿无法保存到本设备，可能是存储空间不足。',
  discard: '放弃草稿',
  discarded: '草稿已放弃。',
  undo: '撤销',
  edit: '编辑',
  edit_title: '编辑梦境',
  delete: '删除',
  deleted: '梦境已删除。',
  saved: '更改已保存。',
  draft: '草稿',
  drafts: '草稿',
  nothing_written: '请先写点什么，或添加一张图片。',
  too_long: '文字过长：共 {n} 个字符，上限为 {most} 个。',
  too_many_tags: '一个梦最多可添加 {n} 个标签。',
  not_a_picture: '“{name}”不是图片。',
  picture: '第 {n} 张图片，共 {total} 张',
  picture_number: '图片 {n}',
  pictures: '图片',
  move_up: '上移图片',
  move_down: '下移图片',
  remove_picture: '移除图片',
  picture_removed: '图片已移除。',
  uploading: '上传中',
  sending: '正在发送…',
  uploading_bytes: '正在上传：{sent} / {total}',
  waiting_to_send: '等待网络连接，恢复后自动发送。',
  not_sent: '未发送：{detail}',
  back_to_draft: '继续编辑',
  stop_upload: '停止上传并编辑',
  retry: '重试',
  processing: '处理中',
  processing_count: '正在处理图片：已完成 {done} / {n}',
  processing_long: '处理时间比平时长。关闭页面后仍会继续处理。',
  picture_ready: '第 {n} 张图片已处理完成。',
  pictures_ready: '所有图片均已处理完成。',
  picture_failed: '第 {n} 张图片处理失败：{detail}',
  cannot_show: '暂时无法加载这张图片。',
  view_large: '放大第 {n} 张图片',
  previous: '上一张',
  next: '下一张',
  of: '{n} / {total}',
  calendar: '日历',
  previous_month: '上个月',
  next_month: '下个月',
  dreams_on: '{date}：{n} 个梦',
  no_such_dream: '找不到这个梦，它可能已被删除。',
  deleted_elsewhere: '这个梦已在其他设备上删除。',
  not_here: '本设备上没有保存这个梦，目前也无法连接服务器。',
  new_version: '有新版本可用。',
  reload: '刷新',
  skip: '跳到主要内容',
  calm: '平静',
  joyful: '愉快',
  curious: '好奇',
  strange: '奇怪',
  sad: '悲伤',
  frightening: '恐惧',
  corrupt: '文件已损坏，无法读取。',
  too_many_pixels: '图片像素数超过服务器上限。',
  too_many_frames: '动画帧数超过服务器上限。',
  unsupported: '不支持此图片格式。',
  timed_out: '处理超时。',
  out_of_memory: '处理所需内存过多。',
  crashed: '处理意外中断。',
  storage_unavailable: '图片存储失败。',
  upload_lost: '服务器上的原文件已丢失，请重新上传。',
}

/** @type {Record<'en' | 'zh', Record<Word, Text>>} */
const LANGUAGES = { en: ENGLISH, zh: CHINESE }

export const MOODS = /** @type {const} */ (['calm', 'joyful', 'curious', 'strange', 'sad', 'frightening'])

/** @typedef {keyof typeof LANGUAGES} Language */

/** @returns {Language} the chosen one, or else the first of the browser's languages that the page has */
function preferredLanguage() {
  const chosen = setting('language')
  if (chosen === 'en' || chosen === 'zh') return chosen
  const first = navigator.languages.find((each) => /^(en|zh)\b/i.test(each))
  return first?.toLowerCase().startsWith('zh') ? 'zh' : 'en'
}

export let language = preferredLanguage()

/** A BCP 47 tag, for dates and numbers: the browser's own variant of the language, if it has one. */
export let locale = localeOf(language)

/** @param {Language} language */
function localeOf(language) {
  const own = navigator.languages.find((each) => each.toLowerCase().startsWith(language))
  return own ?? (language === 'zh' ? 'zh-CN' : 'en')
}

/** @param {Language} chosen */
export function setLanguage(chosen) {
  language = chosen
  locale = localeOf(chosen)
  document.documentElement.lang = locale
}

/**
 * A text in the page's language. `n` chooses between singular and plural.
 * @param {Word} word @param {Record<string, string | number>} [values] replace the `{names}` in the text
 */
export function t(word, values = {}) {
  const text = LANGUAGES[language][word]
  const form = typeof text === 'string' ? text : values.n === 1 ? text.one : text.other
  return form.replace(/\{(\w+)\}/g, (_, name) => {
    const value = values[name]
    return typeof value === 'number' ? value.toLocaleString(locale) : String(value)
  })
}

/** A mood in the page's language; a mood that the page does not offer stays as it is. @param {string} mood */
export function moodName(mood) {
  return /** @type {readonly string[]} */ (MOODS).includes(mood) ? t(/** @type {Word} */ (mood)) : mood
}

/** Why a picture failed. @param {import('./types').Failure} failure */
export function failureText({ code, message }) {
  return code in ENGLISH ? t(/** @type {Word} */ (code)) : message
}

/**
 * A time in the time zone in which the dream was recorded, whatever the zone of this device.
 * @param {string} time RFC 3339 with an offset @param {Intl.DateTimeFormatOptions} options
 */
function formatTime(time, options) {
  return new Intl.DateTimeFormat(locale, { ...options, timeZone: 'UTC' }).format(new Date(`${time.slice(0, 19)}Z`))
}

/** @param {string} time */
export const longDate = (time) => formatTime(time, { weekday: 'long', day: 'numeric', month: 'long', year: 'numeric' })
/** @param {string} time */
export const shortDate = (time) => {
  const thisYear = time.slice(0, 4) === String(new Date().getFullYear())
  return formatTime(time, {
    weekday: 'short',
    day: 'numeric',
    month: 'short',
    ...(thisYear ? {} : { year: 'numeric' }),
  })
}
/** @param {string} time */
export const clock = (time) => formatTime(time, { hour: 'numeric', minute: '2-digit' })
/** @param {string} day as 2026-11-22 */
export const monthName = (day) => formatTime(`${day}T00:00:00`, { month: 'long', year: 'numeric' })
/** @param {string} day as 2026-11-22 */
export const dayName = (day) => formatTime(`${day}T00:00:00`, { day: 'numeric', month: 'long', year: 'numeric' })

/** The names of the weekdays, in the order of the locale. */
export function weekdays() {
  const first = firstDay()
  return [0, 1, 2, 3, 4, 5, 6].map((n) => {
    const date = new Date(Date.UTC(2024, 0, 7 + first + n)) // 7 January 2024 was a Sunday
    /** @param {'narrow' | 'long'} weekday */
    const name = (weekday) => new Intl.DateTimeFormat(locale, { weekday, timeZone: 'UTC' }).format(date)
    return { short: name('narrow'), long: name('long') }
  })
}

/** The first day of the week in the locale; 0 is Sunday. */
export function firstDay() {
  /** @type {any} */
  const info = new Intl.Locale(locale)
  return (info.getWeekInfo?.() ?? info.weekInfo ?? { firstDay: 1 }).firstDay % 7
}
