// What AsyncAPI's own parser objects to in the document on standard input: one line each, nothing where it agrees.
import { createRequire } from 'node:module'
import { text } from 'node:stream/consumers'

const { Parser } = createRequire(process.argv[2])('@asyncapi/parser')
const { diagnostics } = await new Parser().parse(await text(process.stdin))
for (const { code, path, message } of diagnostics) console.log(`${code} at ${path.join('.')}: ${message}`)
