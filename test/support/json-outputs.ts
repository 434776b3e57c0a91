/** The JSON Schemas in docs/json, as judges of what commands print. */
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { Ajv2020 } from 'ajv/dist/2020.js'
import type { outputs } from '../../src/cli/json.ts'

const folder = resolve(import.meta.dirname, '../../docs/json')
const ajv = new Ajv2020({ allowUnionTypes: true })

/** Answers `valid`, or what is wrong with the value. */
export const outputValidator = (name: keyof typeof outputs): ((value: unknown) => string) => {
  const file = join(folder, `${name.replaceAll(' ', '-')}.schema.json`)
  const validate = ajv.compile(JSON.parse(readFileSync(file, 'utf8')))
  return value =>
    validate(value) ? 'valid' : `${name} prints ${JSON.stringify(value, null, 2)}\n${ajv.errorsText(validate.errors)}`
}
