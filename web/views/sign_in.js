// @ts-check
// The forms for signing in and for creating an account.

import { h, icon } from '../dom.js'
import { limits, loadServer, registration } from '../server.js'
import { HttpError, session } from '../session.js'
import { t } from '../words.js'

/** @param {import('../app').App} app @returns {import('../types').View} */
export function signInView(app) {
  /** @type {'login' | 'register'} */
  let endpoint = 'login'
  let pending = false // disabling the button instead would lose the focus

  const name = h('input', {
    name: 'username',
    autocomplete: 'username',
    autocapitalize: 'none',
    spellcheck: 'false',
    required: true,
  })
  const password = h('input', { name: 'password', type: 'password', required: true })
  const rule = h('p', { class: 'hint', id: 'rule' })
  const problem = h('p', { class: 'problem', role: 'alert' })
  const submit = h('button', { type: 'submit', class: 'main' })
  const other = h('button', { type: 'button', class: 'link', on: { click: switchForm } })
  const form = h(
    'form',
    { class: 'sign-in', on: { submit: onSubmit } },
    h('div', { class: 'moon', 'aria-hidden': 'true' }, icon('moon')),
    h('h1', null, t('name')),
    h('p', { class: 'tagline' }, t('tagline')),
    h('label', null, h('span', null, t('username')), name),
    h('label', null, h('span', null, t('password')), password),
    rule,
    problem,
    submit,
    other,
  )
  const view = {
    element: h('main', { id: 'content', tabindex: '-1', class: 'narrow' }, form),
    title: t('sign_in'),
    close() {},
  }
  show()
  loadServer().then(show)
  return view

  function switchForm() {
    endpoint = endpoint === 'login' ? 'register' : 'login'
    problem.textContent = ''
    show()
  }

  function show() {
    const isNew = endpoint === 'register'
    submit.textContent = t(isNew ? 'sign_up' : 'sign_in')
    other.textContent = t(isNew ? 'to_sign_in' : 'to_sign_up')
    other.hidden = !isNew && registration() === 'closed'
    const { username_length: longest, password_min_length: least } = limits()
    const isRule = isNew && least !== undefined
    rule.textContent = isRule ? t('password_rule', { n: least }) : ''
    rule.hidden = !isRule
    if (longest !== undefined) name.maxLength = longest
    password.autocomplete = isNew ? 'new-password' : 'current-password'
    if (isRule) password.setAttribute('minlength', String(least))
    else password.removeAttribute('minlength')
    if (isRule) password.setAttribute('aria-describedby', 'rule')
    else password.removeAttribute('aria-describedby')
    view.title = t(isNew ? 'sign_up' : 'sign_in')
    app.updateTitle(view)
  }

  /** @param {Event} event */
  async function onSubmit(event) {
    event.preventDefault()
    if (pending) return
    pending = true
    problem.textContent = ''
    try {
      await session.signIn(endpoint, name.value, password.value)
    } catch (error) {
      problem.textContent = errorText(error)
    } finally {
      pending = false
    }
  }

  /** @param {unknown} error */
  function errorText(error) {
    if (!(error instanceof HttpError)) return app.errorText(error)
    if (error.status === 401) return t('wrong_password')
    if (error.status === 409) return t('name_taken')
    if (error.status === 403) return t('no_new_accounts')
    if (error.status === 429) return t('too_many_attempts', { n: Math.max(1, Math.ceil(error.retryAfter / 60)) })
    return error.message
  }
}
