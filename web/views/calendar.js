// @ts-check
// A calendar month. Nights with dreams are buttons.

import { h, icon, iconButton } from '../dom.js'
import { journal } from '../journal.js'
import { dayName, firstDay, monthName, t, weekdays } from '../words.js'

export class Calendar {
  /** @param {string} night the selected one, as 2026-11-22, or empty @param {(night: string) => void} choose */
  constructor(night, choose) {
    this.night = night
    this.choose = choose
    this.month = (night || today()).slice(0, 7)
    this.controller = new AbortController()
    this.title = h('h2', { 'aria-live': 'polite' })
    this.days = h('div', { class: 'days' })
    this.element = h(
      'section',
      { class: 'calendar', id: 'calendar', 'aria-label': t('calendar') },
      h(
        'header',
        null,
        iconButton('back', t('previous_month'), () => this.changeMonth(-1)),
        this.title,
        iconButton('forward', t('next_month'), () => this.changeMonth(1)),
      ),
      h(
        'div',
        { class: 'weekdays', 'aria-hidden': 'true' },
        weekdays().map(({ short }) => h('span', null, short)),
      ),
      this.days,
    )
    this.button = h(
      'button',
      {
        type: 'button',
        class: 'plain calendar-button',
        'aria-label': t('calendar'),
        title: t('calendar'),
        'aria-controls': 'calendar',
        'aria-expanded': String(night !== ''),
        on: { click: () => this.toggle() },
      },
      icon('calendar'),
    )
    this.element.classList.toggle('open', night !== '')
    this.show()
  }

  close() {
    this.controller.abort()
  }

  toggle() {
    const open = this.element.classList.toggle('open')
    this.button.setAttribute('aria-expanded', String(open))
  }

  /** @param {-1 | 1} by */
  changeMonth(by) {
    const [year, month] = this.month.split('-').map(Number)
    this.month = new Date(Date.UTC(year, month - 1 + by, 1)).toISOString().slice(0, 7)
    this.show()
  }

  async show() {
    const month = this.month
    const [year, number] = month.split('-').map(Number)
    const last = new Date(Date.UTC(year, number, 0)).getUTCDate()
    const nights = Array.from({ length: last }, (_, index) => `${month}-${String(index + 1).padStart(2, '0')}`)
    this.title.textContent = monthName(nights[0])
    this.#fill(nights, this.#countNights(await journal.cachedIds({ from: nights[0], to: nights[last - 1] })))
    const counts = this.#countNights(await this.#ids(nights[0], nights[last - 1]))
    if (this.month === month) this.#fill(nights, counts)
  }

  /** @param {string} from @param {string} to */
  async #ids(from, to) {
    /** @type {string[]} */
    const all = []
    /** @type {string | null} */
    let cursor = null
    do {
      /** @type {{ids: string[], cursor: string | null}} */
      const page = await journal
        .page({ from, to }, cursor, 100, this.controller.signal)
        .catch(() => ({ ids: [], cursor: null }))
      all.push(...page.ids)
      cursor = page.cursor
    } while (cursor)
    return all
  }

  /** @param {readonly string[]} ids */
  #countNights(ids) {
    /** @type {Map<string, number>} */
    const counts = new Map()
    for (const id of ids) {
      const night = journal.shown(id)?.dreamed_at.slice(0, 10)
      if (night) counts.set(night, (counts.get(night) ?? 0) + 1)
    }
    return counts
  }

  /** @param {readonly string[]} nights @param {Map<string, number>} counts */
  #fill(nights, counts) {
    const before = (new Date(`${nights[0]}T00:00:00Z`).getUTCDay() - firstDay() + 7) % 7
    const gaps = Array.from({ length: before }, () => h('span'))
    const now = today()
    const days = nights.map((night) => {
      const number = Number(night.slice(8))
      const n = counts.get(night) ?? 0
      const current = night === now ? 'date' : null
      if (!n) return h('span', { 'aria-current': current }, number)
      const chosen = night === this.night
      const click = () => this.choose(chosen ? '' : night)
      const label = t('dreams_on', { date: dayName(night), n })
      return h(
        'button',
        { type: 'button', 'aria-label': label, 'aria-pressed': String(chosen), 'aria-current': current, on: { click } },
        number,
      )
    })
    // Keep the focus on the same day.
    const focused = [...this.days.children].indexOf(/** @type {Element} */ (document.activeElement))
    this.days.replaceChildren(...gaps, ...days)
    if (focused >= 0) /** @type {HTMLElement} */ (this.days.children[focused])?.focus()
  }
}

/** Today in the time zone of this device, as 2026-11-22. */
function today() {
  const now = new Date()
  return `${now.getFullYear()}-${String(now.getMonth() + 1).padStart(2, '0')}-${String(now.getDate()).padStart(2, '0')}`
}
