// @ts-check
// The dialog for language, appearance and signing out, and the one that deletes the account.

import { call } from '../api.js'
import { h, iconButton } from '../dom.js'
import { outbox } from '../outbox.js'
import { session } from '../session.js'
import { setting } from '../settings.js'
import * as store from '../store.js'
import { language, t } from '../words.js'

/** @param {import('../app').App} app */
export function showAccount(app) {
  const user = session.user
  const languages = choices(
    'language',
    t('language'),
    language,
    [
      ['en', 'English'],
      ['zh', '中文'],
    ],
    (value) => {
      dialog.close()
      app.changeLanguage(/** @type {'en' | 'zh'} */ (value))
    },
  )
  const themes = choices(
    'theme',
    t('theme'),
    setting('theme') ?? '',
    [
      ['', t('theme_system')],
      ['dark', t('theme_dark')],
      ['light', t('theme_light')],
    ],
    app.setTheme,
  )
  const signOut = async () => {
    dialog.close()
    await session.signOut()
    app.replaceUrl('#/')
  }
  const dialog = h(
    'dialog',
    { class: 'sheet', 'aria-label': t('settings') },
    h(
      'header',
      { class: 'row' },
      h('h2', null, user?.username ?? t('settings')),
      iconButton('close', t('close'), () => dialog.close()),
    ),
    languages,
    themes,
    user && outbox.entries.length > 0 && h('p', { class: 'hint' }, t('unsent_stays')),
    user &&
      h(
        'div',
        { class: 'row' },
        h('button', { type: 'button', on: { click: signOut } }, t('sign_out')),
        h(
          'button',
          { type: 'button', class: 'danger', on: { click: () => (dialog.close(), confirmDelete(app)) } },
          t('delete_account'),
        ),
      ),
  )
  open(dialog)
}

/** @param {import('../app').App} app */
function confirmDelete(app) {
  const user = session.user
  const name = user?.username ?? ''
  const problem = h('p', { class: 'problem', role: 'alert' })
  const field = h('input', {
    autocomplete: 'off',
    autocapitalize: 'none',
    'aria-label': t('username'),
    on: { input: () => (confirm.disabled = field.value !== name) },
  })
  const confirm = h('button', { type: 'submit', class: 'danger', disabled: true }, t('delete_account'))
  const onSubmit = async (/** @type {Event} */ event) => {
    event.preventDefault()
    try {
      await call('DELETE', '/api/me')
      dialog.close()
      await session.accountDeleted()
      if (user) await store.deleteUser(user.id) // after the views, which save drafts when they close
      app.replaceUrl('#/')
    } catch (error) {
      problem.textContent = app.errorText(error)
    }
  }
  const dialog = h(
    'dialog',
    { class: 'sheet', 'aria-label': t('delete_account') },
    h(
      'form',
      { on: { submit: onSubmit } },
      h('h2', null, t('delete_account')),
      h('p', null, t('delete_account_sure', { name })),
      field,
      problem,
      h(
        'div',
        { class: 'row' },
        h('button', { type: 'button', on: { click: () => dialog.close() } }, t('cancel')),
        confirm,
      ),
    ),
  )
  open(dialog)
}

/** @param {HTMLDialogElement} dialog */
function open(dialog) {
  dialog.addEventListener('close', () => dialog.remove())
  dialog.addEventListener('click', ({ target }) => target === dialog && dialog.close())
  document.body.append(dialog)
  dialog.showModal()
}

/**
 * @param {string} name @param {string} label @param {string} chosen @param {[string, string][]} offered
 * @param {(value: string) => void} choose
 */
function choices(name, label, chosen, offered, choose) {
  return h(
    'fieldset',
    null,
    h('legend', null, label),
    h(
      'div',
      { class: 'choices' },
      offered.map(([value, text]) => {
        const input = h('input', {
          type: 'radio',
          name,
          value,
          '.checked': value === chosen,
          on: { change: () => choose(value) },
        })
        return h('label', { class: 'chip' }, input, text)
      }),
    ),
  )
}
