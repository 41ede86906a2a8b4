// The client library under the name that the first API gave it. The code is in client/dreamlog.js.

export * from './client/dreamlog.js'
