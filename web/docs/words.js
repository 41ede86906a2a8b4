// @ts-check
// The words of the documentation around the contracts, in both languages. The contracts themselves are English.

import { saveSetting, setting } from '../settings.js'

const ENGLISH = {
  title: 'Dreamlog API',
  version: 'Version {version}',
  contents: 'Contents',
  skip: 'Skip to the contents',
  search: 'Search calls, messages and codes',
  search_hint: 'Press / to search',
  found: 'Entries found: {n}.',
  nothing: 'Nothing matches. Try fewer or shorter words.',
  failed: 'The contracts cannot be loaded. Reload the page.',
  machine: 'For tools:',
  prose: 'First steps and examples are in docs/api.md of the source.',
  accounts: 'Accounts',
  dreams: 'Dreams',
  images: 'Images',
  server: 'The server',
  live: 'Live updates',
  messages: 'Messages',
  closes: 'Close codes',
  problems: 'Problems',
  shapes: 'Shapes',
  link: 'Link to {name}',
  no_token: 'No token needed',
  token: 'Access token needed',
  parameters: 'Parameters',
  in_path: 'in the path',
  in_query: 'in the query',
  in_header: 'header',
  body: 'Body',
  optional_body: 'Body, optional',
  answers: 'Answers',
  headers: 'Headers: {names}',
  fields: 'Fields',
  example: 'Example',
  required: 'required',
  optional: 'may be absent',
  one_of: 'One of: {values}',
  between: '{from} to {to}',
  at_least: 'at least {from}',
  at_most: 'at most {to}',
  length: 'length {range}',
  items: 'number {range}',
  by_default: 'default {value}',
  list_of: 'list of {type}',
  map_of: 'by name: {type}',
  file: 'file',
  from_server: 'From the server',
  from_client: 'From the client',
  reconnect: 'Reconnect',
  stop: 'Stop',
  blank_problem: 'Status and detail say everything.',
  problem_intro:
    'Every error of the API is a problem as RFC 9457 describes it. Its type is one of these; its detail says what was wrong and what is allowed.',
}

/** @type {typeof ENGLISH} */
const CHINESE = {
  title: 'Dreamlog API',
  version: '版本 {version}',
  contents: '目录',
  skip: '跳到正文',
  search: '搜索接口、消息和代码',
  search_hint: '按 / 键搜索',
  found: '找到 {n} 项。',
  nothing: '没有找到。请减少或缩短关键词。',
  failed: '无法加载接口文档，请刷新页面。',
  machine: '供工具使用：',
  prose: '入门步骤和示例见源代码中的 docs/api.md。',
  accounts: '账户',
  dreams: '梦',
  images: '图片',
  server: '服务器',
  live: '实时更新',
  messages: '消息',
  closes: '关闭代码',
  problems: '错误类型',
  shapes: '数据结构',
  link: '{name} 的链接',
  no_token: '无需令牌',
  token: '需要访问令牌',
  parameters: '参数',
  in_path: '路径参数',
  in_query: '查询参数',
  in_header: '请求头',
  body: '请求正文',
  optional_body: '请求正文（可选）',
  answers: '响应',
  headers: '响应头：{names}',
  fields: '字段',
  example: '示例',
  required: '必填',
  optional: '可缺省',
  one_of: '取值：{values}',
  between: '{from} 至 {to}',
  at_least: '最小 {from}',
  at_most: '最大 {to}',
  length: '长度 {range}',
  items: '数量 {range}',
  by_default: '默认 {value}',
  list_of: '{type} 列表',
  map_of: '按名称：{type}',
  file: '文件',
  from_server: '服务器发送',
  from_client: '客户端发送',
  reconnect: '重新连接',
  stop: '停止',
  blank_problem: '状态码和 detail 已说明一切。',
  problem_intro: 'API 的每个错误都是 RFC 9457 所说的 problem。type 是下列之一，detail 说明错在哪里、允许什么。',
}

const LANGUAGES = { en: ENGLISH, zh: CHINESE }

/** @typedef {keyof typeof ENGLISH} Word */
/** @typedef {keyof typeof LANGUAGES} Language */

/** @returns {Language} */
function preferred() {
  const chosen = setting('language')
  if (chosen === 'en' || chosen === 'zh') return chosen
  const first = navigator.languages.find((each) => /^(en|zh)\b/i.test(each))
  return first?.toLowerCase().startsWith('zh') ? 'zh' : 'en'
}

/** @type {Language} */
export let language = preferred()

/** @param {Language} chosen */
export function setLanguage(chosen) {
  language = chosen
  saveSetting('language', chosen)
}

/** @param {Word} word @param {Record<string, string | number>} [values] */
export function t(word, values = {}) {
  return LANGUAGES[language][word].replace(/\{(\w+)\}/g, (_, name) => String(values[name]))
}
