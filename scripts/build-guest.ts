/** Bundles what runs in a machine on Node.js into one file, `guest/mcp.mjs`: after `npm ci` in a checkout, and for `npm pack`. */
import { join } from 'node:path'
import { rolldown } from 'rolldown'

const guest = join(import.meta.dirname, '../guest')
const bundle = await rolldown({ input: join(guest, 'mcp.ts'), platform: 'node', logLevel: 'warn' })
await bundle.write({ file: join(guest, 'mcp.mjs'), format: 'esm', minify: true, codeSplitting: false })
