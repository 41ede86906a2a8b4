// @ts-check
// Small settings of this browser, shared by all its tabs.

/** @param {string} name @returns {string | null} null when it is not set */
export function setting(name) {
  try {
    return localStorage.getItem(name)
  } catch {
    return null // the browser blocks storage
  }
}

/** @param {string} name @param {string} value an empty value removes the setting */
export function saveSetting(name, value) {
  try {
    if (value) localStorage.setItem(name, value)
    else localStorage.removeItem(name)
  } catch {
    // the browser blocks storage
  }
}
