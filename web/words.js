// @ts-check
// Everything the page says, in English and Chinese, and how dates are written.

/** @typedef {keyof typeof ENGLISH} Word */

const ENGLISH = {
  name: 'Dreamlog',
  tagline: 'A journal for the nights',
  username: 'User name',
  password: 'Password',
  password_rule: 'At least 8 characters.',
  sign_in: 'Sign in',
  sign_up: 'Create an account',
  sign_out: 'Sign out',
  to_sign_up: 'New here? Create an account',
  to_sign_in: 'Have an account? Sign in',
  wrong_password: 'The user name or the password is wrong.',
  name_taken: 'This name is taken. Choose another one.',
  no_new_accounts: 'This server takes no new accounts.',
  too_many_tries: 'Too many tries. Wait {n} s, then try again.',
  unreachable: 'The server cannot be reached. Check the connection and try again.',
  no_storage:
    'This browser does not let pages keep anything, so drafts cannot be kept. Leave private browsing, or allow it in the settings.',
  something_wrong: 'Something went wrong: {detail}',
  write: 'Write a dream',
  journal: 'Journal',
  menu: 'Settings',
  language: 'Language',
  theme: 'Colours',
  theme_auto: 'As on this device',
  theme_dark: 'Dark',
  theme_light: 'Light',
  close: 'Close',
  cancel: 'Cancel',
  back: 'Back',
  delete_account: 'Delete the account',
  delete_account_sure:
    'All dreams and pictures of {name} will be deleted, on the server and on this device. This cannot be undone. Type the user name to go on.',
  unsent_stays: 'What has not been sent yet stays on this device until you sign in again.',
  search: 'Search dreams',
  tag: 'Tag',
  tags: 'Tags',
  night_of: 'Night of {date}',
  no_dreams: 'No dream is written here yet.',
  no_dreams_hint: 'Dreams fade within minutes of waking. Write down what is left, a few words are enough.',
  nothing_found: 'No dream fits.',
  show_all: 'Show all dreams',
  loading: 'Loading …',
  load_more: 'Show more',
  offline: 'Offline. You see what this device has kept; what you write is sent later.',
  untitled: 'Untitled',
  title: 'Title',
  title_hint: 'What was it about?',
  text: 'What did you dream?',
  text_more: 'Text after the picture',
  when: 'When',
  mood: 'Mood',
  lucidity: 'How lucid',
  lucidity_0: 'Not lucid',
  lucidity_1: 'A hint',
  lucidity_2: 'Now and then',
  lucidity_3: 'Half',
  lucidity_4: 'Mostly',
  lucidity_5: 'Fully lucid',
  lucidity_none: 'Not said',
  lucid: 'Lucid {n} of 5',
  tags_hint: 'Add a tag, then Enter',
  remove_tag: 'Remove the tag {tag}',
  add_photo: 'Add pictures here',
  take_photo: 'Take a photo here',
  drop_here: 'Let go to put the pictures here',
  save: 'Save',
  saved_here: 'Draft kept on this device',
  saving_draft: 'Keeping the draft …',
  draft_not_kept: 'The draft could not be kept on this device: {detail}',
  discard: 'Discard',
  discarded: 'Draft discarded.',
  undo: 'Undo',
  edit: 'Edit',
  edit_title: 'Edit the dream',
  delete: 'Delete',
  deleted: 'Dream deleted.',
  saved: 'Changes saved.',
  draft: 'Draft',
  drafts: 'Drafts',
  nothing_written: 'Write something, or add a picture.',
  too_long: 'The text is too long: {n} of {most} characters.',
  too_many_tags: 'A dream can have at most {n} tags.',
  not_a_picture: 'Not a picture that can be kept here: {name}',
  picture: 'Picture {n} of {total}',
  picture_options: 'Picture {n}',
  move_up: 'Move the picture up',
  move_down: 'Move the picture down',
  remove_picture: 'Remove the picture',
  picture_removed: 'Picture removed.',
  uploading: 'Uploading',
  sending: 'Sending …',
  uploading_bytes: 'Uploading: {sent} of {total}',
  waiting_to_send: 'Waiting for a connection. It is sent on its own.',
  not_sent: 'Not sent: {detail}',
  back_to_draft: 'Edit again',
  stop_upload: 'Stop, and edit again',
  retry: 'Try again',
  processing: 'Processing',
  processing_count: 'Processing pictures: {done} of {total} ready',
  processing_long: 'This takes longer than usual. It goes on, also when you close the page.',
  picture_ready: 'Picture {n} is ready.',
  pictures_ready: 'All pictures are ready.',
  picture_failed: 'Picture {n} has failed: {detail}',
  cannot_show: 'This picture cannot be loaded just now.',
  view_large: 'Show picture {n} large',
  previous: 'Previous picture',
  next: 'Next picture',
  of: '{n} / {total}',
  calendar: 'Calendar',
  previous_month: 'Previous month',
  next_month: 'Next month',
  nights_with_dreams: '{date}: {n} dreams',
  night_with_dream: '{date}: 1 dream',
  no_such_dream: 'There is no such dream. It may have been deleted.',
  gone: 'This dream was deleted on another device.',
  not_here: 'This dream is not on this device, and the server cannot be reached.',
  try_another: 'Try once more',
  new_version: 'A new version is ready.',
  reload: 'Reload',
  skip: 'Go to the content',
  calm: 'Calm',
  joyful: 'Joyful',
  curious: 'Curious',
  strange: 'Strange',
  sad: 'Sad',
  frightening: 'Frightening',
  corrupt: 'The file is damaged and cannot be read.',
  too_many_pixels: 'The picture has more pixels than this server takes.',
  too_many_frames: 'The animation has more frames than this server takes.',
  unsupported: 'Pictures of this kind cannot be read here.',
  timed_out: 'Processing took too long.',
  out_of_memory: 'Processing needed too much memory.',
  crashed: 'Processing broke off.',
  storage_unavailable: 'The picture could not be stored.',
  upload_lost: 'The upload is no longer on the server.',
}

/** @type {Record<Word, string>} */
const CHINESE = {
  name: 'Dreamlog',
  tagline: '记录每一夜的梦',
  username: '用户名',
  password: '密码',
  password_rule: '至少 8 个字符。',
  sign_in: '登录',
  sign_up: '注册',
  sign_out: '退出登录',
  to_sign_up: '还没有账户？注册一个',
  to_sign_in: '已有账户？去登录',
  wrong_password: '用户名或密码不正确。',
  name_taken: '这个用户名已被使用，请换一个。',
  no_new_accounts: '本服务器不接受新账户。',
  too_many_tries: '尝试次数太多，请等 {n} 秒后再试。',
  unreachable: '无法连接服务器。请检查网络后重试。',
  no_storage: '浏览器不允许网页保存数据，草稿无法保留。请退出无痕模式，或在设置中允许。',
  something_wrong: '出错了：{detail}',
  write: '写下一个梦',
  journal: '梦的日记',
  menu: '设置',
  language: '语言',
  theme: '颜色',
  theme_auto: '跟随设备',
  theme_dark: '深色',
  theme_light: '浅色',
  close: '关闭',
  cancel: '取消',
  back: '返回',
  delete_account: '删除账户',
  delete_account_sure: '{name} 的所有梦和图片将从服务器和本设备上删除，无法恢复。请输入用户名以继续。',
  unsent_stays: '尚未发送的内容会留在本设备上，直到您再次登录。',
  search: '搜索梦',
  tag: '标签',
  tags: '标签',
  night_of: '{date}之夜',
  no_dreams: '这里还没有梦。',
  no_dreams_hint: '醒来几分钟后，梦就会消散。写下还记得的，几个字就够了。',
  nothing_found: '没有符合的梦。',
  show_all: '显示全部',
  loading: '加载中……',
  load_more: '显示更多',
  offline: '当前离线。显示的是本设备保存的内容；您写下的会稍后发送。',
  untitled: '无题',
  title: '标题',
  title_hint: '梦见了什么？',
  text: '您梦见了什么？',
  text_more: '图片后的文字',
  when: '时间',
  mood: '心情',
  lucidity: '清醒程度',
  lucidity_0: '不清醒',
  lucidity_1: '略有察觉',
  lucidity_2: '时有时无',
  lucidity_3: '一半',
  lucidity_4: '大部分清醒',
  lucidity_5: '完全清醒',
  lucidity_none: '未填',
  lucid: '清醒 {n}/5',
  tags_hint: '输入标签后按回车',
  remove_tag: '移除标签 {tag}',
  add_photo: '在此处添加图片',
  take_photo: '在此处拍照',
  drop_here: '松开即可将图片放在这里',
  save: '保存',
  saved_here: '草稿已保存在本设备',
  saving_draft: '正在保存草稿……',
  draft_not_kept: '草稿无法保存在本设备：{detail}',
  discard: '丢弃',
  discarded: '草稿已丢弃。',
  undo: '撤销',
  edit: '编辑',
  edit_title: '编辑梦',
  delete: '删除',
  deleted: '梦已删除。',
  saved: '修改已保存。',
  draft: '草稿',
  drafts: '草稿',
  nothing_written: '请写点什么，或添加一张图片。',
  too_long: '文字太长：{n} / {most} 个字符。',
  too_many_tags: '一个梦最多 {n} 个标签。',
  not_a_picture: '不是可以保存的图片：{name}',
  picture: '第 {n} 张图片，共 {total} 张',
  picture_options: '图片 {n}',
  move_up: '图片上移',
  move_down: '图片下移',
  remove_picture: '移除图片',
  picture_removed: '图片已移除。',
  uploading: '上传中',
  sending: '正在发送……',
  uploading_bytes: '上传中：{sent} / {total}',
  waiting_to_send: '等待网络连接，之后会自动发送。',
  not_sent: '未发送：{detail}',
  back_to_draft: '再次编辑',
  stop_upload: '停止并再次编辑',
  retry: '重试',
  processing: '处理中',
  processing_count: '正在处理图片：{done} / {total} 已完成',
  processing_long: '比平时更久。即使关闭页面，处理也会继续。',
  picture_ready: '第 {n} 张图片已就绪。',
  pictures_ready: '所有图片已就绪。',
  picture_failed: '第 {n} 张图片失败：{detail}',
  cannot_show: '暂时无法加载这张图片。',
  view_large: '放大第 {n} 张图片',
  previous: '上一张',
  next: '下一张',
  of: '{n} / {total}',
  calendar: '日历',
  previous_month: '上个月',
  next_month: '下个月',
  nights_with_dreams: '{date}：{n} 个梦',
  night_with_dream: '{date}：1 个梦',
  no_such_dream: '没有这个梦，可能已被删除。',
  gone: '这个梦已在另一设备上删除。',
  not_here: '本设备没有保存这个梦，且无法连接服务器。',
  try_another: '再试一次',
  new_version: '有新版本。',
  reload: '重新加载',
  skip: '跳到内容',
  calm: '平静',
  joyful: '愉快',
  curious: '好奇',
  strange: '奇异',
  sad: '悲伤',
  frightening: '可怕',
  corrupt: '文件已损坏，无法读取。',
  too_many_pixels: '图片像素超过本服务器的上限。',
  too_many_frames: '动画帧数超过本服务器的上限。',
  unsupported: '无法读取这种图片。',
  timed_out: '处理时间过长。',
  out_of_memory: '处理需要的内存过多。',
  crashed: '处理中断。',
  storage_unavailable: '图片无法存储。',
  upload_lost: '服务器上已没有这次上传。',
}

const LANGUAGES = { en: ENGLISH, zh: CHINESE }

export const MOODS = /** @type {const} */ (['calm', 'joyful', 'curious', 'strange', 'sad', 'frightening'])

/** @typedef {keyof typeof LANGUAGES} Language */

/** @returns {Language} */
function preferred() {
  const chosen = recall('language')
  if (chosen === 'en' || chosen === 'zh') return chosen
  const first = navigator.languages.find((each) => /^(en|zh)\b/i.test(each))
  return first?.toLowerCase().startsWith('zh') ? 'zh' : 'en'
}

/** Something small that all tabs know, kept on this device. @param {string} name */
export function recall(name) {
  try {
    return localStorage.getItem(name)
  } catch {
    return null // storage is switched off
  }
}

/** @param {string} name @param {string} value empty: forget it */
export function remember(name, value) {
  try {
    if (value) localStorage.setItem(name, value)
    else localStorage.removeItem(name)
  } catch {
    // storage is switched off
  }
}

export let language = preferred()

/** The browser's own name of it, for dates and numbers. */
export let locale = localeOf(language)

/** @param {Language} spoken */
function localeOf(spoken) {
  return navigator.languages.find((each) => each.toLowerCase().startsWith(spoken)) ?? (spoken === 'zh' ? 'zh-CN' : 'en')
}

/** @param {Language} chosen */
export function speak(chosen) {
  remember('language', chosen)
  language = chosen
  locale = localeOf(chosen)
  document.documentElement.lang = locale
}

/**
 * A text of the page, its `{names}` filled in.
 * @param {Word} word @param {Record<string, string | number>} [values]
 */
export function t(word, values = {}) {
  return LANGUAGES[language][word].replace(/\{(\w+)\}/g, (_, name) => String(values[name]))
}

/** A mood as it is shown: those offered here in the page's language, others as written. @param {string} mood */
export function moodName(mood) {
  return /** @type {readonly string[]} */ (MOODS).includes(mood) ? t(/** @type {Word} */ (mood)) : mood
}

/** Why a picture failed. @param {import('./types').Failure} failure */
export function failure(failure) {
  const sentences = /** @type {Record<string, string>} */ (LANGUAGES[language])
  return sentences[failure.code] ?? failure.message
}

/**
 * A moment on the dreamer's own clock, whatever this device's is.
 * @param {string} moment RFC 3339 with an offset @param {Intl.DateTimeFormatOptions} how
 */
function written(moment, how) {
  return new Intl.DateTimeFormat(locale, { ...how, timeZone: 'UTC' }).format(new Date(`${moment.slice(0, 19)}Z`))
}

/** @param {string} moment */
export const longDate = (moment) => written(moment, { weekday: 'long', day: 'numeric', month: 'long', year: 'numeric' })
/** @param {string} moment */
export const shortDate = (moment) => {
  const thisYear = moment.slice(0, 4) === String(new Date().getFullYear())
  return written(moment, { weekday: 'short', day: 'numeric', month: 'short', ...(thisYear ? {} : { year: 'numeric' }) })
}
/** @param {string} moment */
export const clock = (moment) => written(moment, { hour: 'numeric', minute: '2-digit' })
/** @param {string} day as 2026-11-22 */
export const monthName = (day) => written(`${day}T00:00:00`, { month: 'long', year: 'numeric' })
/** @param {string} day as 2026-11-22 */
export const dayName = (day) => written(`${day}T00:00:00`, { day: 'numeric', month: 'long', year: 'numeric' })

/** The names of the days, from the first day of the week here. */
export function weekdays() {
  const first = firstDay()
  return [0, 1, 2, 3, 4, 5, 6].map((n) => {
    const date = new Date(Date.UTC(2024, 0, 7 + first + n)) // 7 January 2024 was a Sunday
    /** @param {'narrow' | 'long'} weekday */
    const name = (weekday) => new Intl.DateTimeFormat(locale, { weekday, timeZone: 'UTC' }).format(date)
    return { short: name('narrow'), long: name('long') }
  })
}

/** 0 is Sunday. */
export function firstDay() {
  /** @type {any} */
  const here = new Intl.Locale(locale)
  return (here.getWeekInfo?.() ?? here.weekInfo ?? { firstDay: 1 }).firstDay % 7
}
