/** Tables and schemas as text. */
import { type ConversionConfig, type JsonSchema, toJsonSchema } from '@valibot/to-json-schema'
import type * as v from 'valibot'

export const table = (rows: readonly (readonly string[])[]): string => {
  const [head = [], ...rest] = rows
  return [head, head.map(() => '---'), ...rest]
    .map(row => `| ${row.map(cell => cell.replaceAll('|', '\\|')).join(' | ')} |`)
    .join('\n')
}

/** The values that a schema allows, in words. */
export const valueText = (schema: JsonSchema | boolean | undefined): string => {
  if (typeof schema !== 'object') return ''
  if (schema.enum !== undefined) return schema.enum.map(value => `\`${value}\``).join(', ')
  if (schema.anyOf !== undefined) return schema.anyOf.map(valueText).join(', or ')
  if (schema.type === 'integer')
    return `${schema.minimum} to ${schema.maximum === Number.MAX_SAFE_INTEGER ? '…' : schema.maximum}`
  if (schema.type === 'array') return 'a list'
  return schema.type === 'object' ? '' : 'text'
}

export const toSchema = (schema: v.GenericSchema, config: ConversionConfig = {}): JsonSchema =>
  toJsonSchema(schema, {
    target: 'draft-07',
    typeMode: 'input',
    // JSON Schema cannot express every check; the parser makes the others.
    errorMode: 'ignore',
    overrideAction: ({ valibotAction, jsonSchema }) =>
      // Our only raw check refuses unknown names.
      valibotAction.type === 'raw_check' ? { ...jsonSchema, additionalProperties: false } : undefined,
    ...config,
  })

export const toText = (schema: JsonSchema): string => `${JSON.stringify(schema, null, 2)}\n`
