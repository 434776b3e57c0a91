/** What commands print with `--json`: a JSON Schema for each, and the same in words. */
import type { ConversionConfig, JsonSchema } from '@valibot/to-json-schema'
import type * as v from 'valibot'
import { forms, outputs } from '../../src/cli/json.ts'
import { table, toSchema } from './words.ts'

type Schema = JsonSchema & { $defs?: Record<string, JsonSchema> }
type Name = keyof typeof outputs

/** `docs/json/bot-inbox.schema.json` of `bot inbox`. */
export const schemaFile = (name: string): string => `docs/json/${name.replaceAll(' ', '-')}.schema.json`

/** What is printed has been parsed: a member with a default is always there. */
const isRequired = (entry: v.GenericSchema): boolean =>
  entry.type !== 'optional' || ('default' in entry && entry.default !== undefined)

/**
 * The shared schemas let unknown members pass, so that two versions understand each other, and cut long text. What is printed
 * has neither.
 */
const conversion: ConversionConfig = {
  target: 'draft-2020-12',
  typeMode: 'ignore',
  errorMode: 'throw',
  definitions: forms,
  ignoreActions: ['transform'],
  overrideSchema: ({ valibotSchema, jsonSchema }) => {
    if (valibotSchema.type !== 'object') return undefined
    const { entries } = valibotSchema as unknown as v.ObjectSchema<Record<string, v.GenericSchema>, undefined>
    const required = Object.keys(entries).filter(name => isRequired(entries[name] as v.GenericSchema))
    return { ...jsonSchema, required, additionalProperties: false }
  },
  overrideAction: ({ valibotAction, jsonSchema }) => {
    // JSON Schema has no flags: a pattern that ignores the case is left out.
    if (valibotAction.type !== 'regex') return undefined
    const { flags } = (valibotAction as unknown as v.RegexAction<string, undefined>).requirement
    const { pattern: _, ...rest } = jsonSchema
    return flags === '' ? undefined : rest
  },
}

const convert = (name: Name): Schema => toSchema(outputs[name], conversion)

const refs = (schema: JsonSchema): string[] =>
  [...JSON.stringify(schema).matchAll(/"\$ref":"#\/\$defs\/(\w+)"/g)].map(([, name = '']) => name)

/** The names of all forms that are reached from `names`. */
const reachable = (
  names: readonly string[],
  all: Readonly<Record<string, JsonSchema>>,
  reached = new Set<string>(),
): Set<string> => {
  for (const name of names) {
    const form = all[name]
    if (reached.has(name) || form === undefined) continue
    reached.add(name)
    reachable(refs(form), all, reached)
  }
  return reached
}

export const outputSchema = (name: Name): JsonSchema => {
  const { $schema, $defs = {}, ...schema } = convert(name)
  const needed = reachable(refs(schema), $defs)
  const defs = Object.fromEntries(Object.entries($defs).filter(([form]) => needed.has(form)))
  const title = name === 'error' ? 'What a command prints with --json when it fails' : `agent-swarm ${name} --json`
  return { $schema, ...schema, title, ...(needed.size === 0 ? {} : { $defs: defs }) } as JsonSchema
}

// ── In words ──

const formAnchor = (name: string) => `#form-${name.toLowerCase()}`
const code = (value: unknown) => `\`${value}\``
const typeNames: Readonly<Record<string, string>> = {
  string: 'text',
  integer: 'whole number',
  boolean: '`true` or `false`',
}

const typeText = (schema: JsonSchema | boolean | undefined): string => {
  if (typeof schema !== 'object') return 'anything'
  const { $ref, anyOf, oneOf, items, additionalProperties, enum: members, const: constant, title, type } = schema
  if ($ref !== undefined) {
    const name = $ref.replace('#/$defs/', '')
    return `[${name}](${formAnchor(name)})`
  }
  const alternatives = anyOf ?? oneOf
  if (alternatives !== undefined) return [...new Set(alternatives.map(typeText))].join(' or ')
  if (constant !== undefined) return code(constant)
  if (members !== undefined) return members.map(code).join(', ')
  if (type === 'array') return `list of ${typeText(items as JsonSchema)}`
  if (type === 'object') return typeof additionalProperties === 'object' ? 'texts by name' : 'object'
  if (type === undefined) return 'anything'
  return title ?? typeNames[String(type)] ?? String(type)
}

/** The object that a schema is or holds, whose rows follow under its path. */
const innerObject = (schema: JsonSchema): { path: string; object: JsonSchema } | null => {
  if (schema.properties !== undefined) return { path: '', object: schema }
  const inner =
    schema.type === 'array' ? schema.items : schema.anyOf?.find(part => typeof part === 'object' && part.properties)
  if (typeof inner !== 'object' || Array.isArray(inner)) return null
  const object = innerObject(inner)
  return object === null ? null : { ...object, path: `${schema.type === 'array' ? '[]' : ''}${object.path}` }
}

const rows = (object: JsonSchema, before = ''): string[][] =>
  Object.entries(object.properties ?? {}).flatMap(([name, schema]) => {
    if (typeof schema !== 'object') return [[code(`${before}${name}`), 'anything', '']]
    const inner = innerObject(schema)
    const optional = object.required?.includes(name) === true ? '' : ', may be missing'
    return [
      [code(`${before}${name}`), `${typeText(schema)}${optional}`, schema.description ?? ''],
      ...(inner === null ? [] : rows(inner.object, `${before}${name}${inner.path}.`)),
    ]
  })

/** `` `result` is `done` ``: the member that tells an alternative from the others. */
const mark = (object: JsonSchema): string | null => {
  for (const [name, schema] of Object.entries(object.properties ?? {}))
    if (typeof schema === 'object' && schema.const !== undefined) return `${code(name)} is ${code(schema.const)}`
  return null
}

const shapeText = (schema: JsonSchema): string => {
  if (schema.$ref !== undefined) return `A ${typeText(schema)}.`
  const alternatives = schema.anyOf ?? schema.oneOf
  if (alternatives !== undefined)
    return alternatives
      .map((alternative, at) => {
        const form = alternative as JsonSchema
        const condition = mark(form)
        const lead = at === 0 ? 'Either' : 'Or'
        return `${lead}${condition === null ? '' : `, where ${condition}`}:\n\n${shapeText(form)}`
      })
      .join('\n\n')
  if (schema.type === 'array') {
    const item = schema.items as JsonSchema
    return item.$ref === undefined ? `A list. Each item has:\n\n${shapeText(item)}` : `A list of ${typeText(item)}.`
  }
  return table([['Member', 'Value', 'Meaning'], ...rows(schema)])
}

export const outputText = (name: Name): string => shapeText(outputSchema(name))
export const formsText = (): string =>
  Object.entries(convert('up').$defs ?? {})
    .map(([name, form]) => `### Form ${name}\n\n${shapeText(form)}`)
    .join('\n\n')
