/** Tables and schemas as text: what the pages are written with. */
import { type ConversionConfig, type JsonSchema, toJsonSchema } from '@valibot/to-json-schema'
import type * as v from 'valibot'

export const table = (rows: readonly (readonly string[])[]): string => {
  const [head = [], ...rest] = rows
  return [head, head.map(() => '---'), ...rest]
    .map(row => `| ${row.map(cell => cell.replaceAll('|', '\\|')).join(' | ')} |`)
    .join('\n')
}

/** What a value must be, in words. */
export const wordsOf = (schema: JsonSchema | boolean | undefined): string => {
  if (typeof schema !== 'object') return ''
  if (schema.enum !== undefined) return schema.enum.map(one => `\`${one}\``).join(', ')
  if (schema.anyOf !== undefined) return schema.anyOf.map(wordsOf).join(', or ')
  if (schema.type === 'integer')
    return `${schema.minimum} to ${schema.maximum === Number.MAX_SAFE_INTEGER ? '…' : schema.maximum}`
  if (schema.type === 'array') return 'a list'
  return schema.type === 'object' ? '' : 'text'
}

export const schemaOf = (form: v.GenericSchema, config: ConversionConfig = {}): JsonSchema =>
  toJsonSchema(form, {
    target: 'draft-07',
    typeMode: 'input',
    // What JSON Schema cannot say, it leaves to the parser.
    errorMode: 'ignore',
    overrideAction: ({ valibotAction, jsonSchema }) =>
      // The only one of ours: no other names.
      valibotAction.type === 'raw_check' ? { ...jsonSchema, additionalProperties: false } : undefined,
    ...config,
  })

export const asText = (schema: JsonSchema): string => `${JSON.stringify(schema, null, 2)}\n`
