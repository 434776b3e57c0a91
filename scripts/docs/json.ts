/** What commands print with `--json`: a schema for each, and the same in words. */
import type { JsonSchema } from '@valibot/to-json-schema'
import { forms, outputs } from '../../src/cli/json.ts'
import { schemaOf, table } from './words.ts'

type Schema = JsonSchema & { $defs?: Record<string, JsonSchema> }
type Name = keyof typeof outputs

/** `bot-inbox.schema.json` of `bot inbox`. */
export const schemaFile = (name: string): string => `docs/json/${name.replace(' ', '-')}.schema.json`

const refs = (schema: JsonSchema): string[] =>
  [...JSON.stringify(schema).matchAll(/"\$ref":"#\/\$defs\/(\w+)"/g)].map(([, name = '']) => name)

/** Of all forms, those that it leads to. */
const reached = (from: readonly string[], all: Readonly<Record<string, JsonSchema>>, found = new Set<string>()) => {
  for (const name of from) {
    const form = all[name]
    if (found.has(name) || form === undefined) continue
    found.add(name)
    reached(refs(form), all, found)
  }
  return found
}

const whole = (name: Name): Schema =>
  schemaOf(outputs[name], { target: 'draft-2020-12', errorMode: 'throw', definitions: forms })

export const outputSchema = (name: Name): JsonSchema => {
  const { $schema, $defs = {}, ...schema } = whole(name)
  const needed = reached(refs(schema), $defs)
  const left = Object.fromEntries(Object.entries($defs).filter(([form]) => needed.has(form)))
  const title = name === 'error' ? 'What a command prints with --json when it fails' : `agent-swarm ${name} --json`
  return { $schema, title, ...schema, ...(needed.size === 0 ? {} : { $defs: left }) } as JsonSchema
}

// ── In words ──

const formAnchor = (name: string) => `#form-${name.toLowerCase()}`
const code = (value: unknown) => `\`${value}\``

const typeOf = (schema: JsonSchema | boolean | undefined): string => {
  if (typeof schema !== 'object') return 'anything'
  const { $ref, anyOf, oneOf, items, additionalProperties, enum: members, const: constant, title, type } = schema
  if ($ref !== undefined) {
    const name = $ref.replace('#/$defs/', '')
    return `[${name}](${formAnchor(name)})`
  }
  const many = anyOf ?? oneOf
  if (many !== undefined) return [...new Set(many.map(typeOf))].join(' or ')
  if (constant !== undefined) return code(constant)
  if (members !== undefined) return members.map(code).join(', ')
  if (type === 'array') return `list of ${typeOf(items as JsonSchema)}`
  if (type === 'object') return typeof additionalProperties === 'object' ? 'texts by name' : 'object'
  if (type === undefined) return 'anything'
  return (
    title ?? { string: 'text', integer: 'whole number', boolean: '`true` or `false`' }[String(type)] ?? String(type)
  )
}

/** The object with names of its own that it is or holds: its rows follow under its path. */
const inside = (schema: JsonSchema): { within: string; object: JsonSchema } | null => {
  if (schema.properties !== undefined) return { within: '', object: schema }
  const one =
    schema.type === 'array' ? schema.items : schema.anyOf?.find(part => typeof part === 'object' && part.properties)
  if (typeof one !== 'object' || Array.isArray(one)) return null
  const found = inside(one)
  return found === null ? null : { ...found, within: `${schema.type === 'array' ? '[]' : ''}${found.within}` }
}

const rows = (object: JsonSchema, before = ''): string[][] =>
  Object.entries(object.properties ?? {}).flatMap(([name, one]) => {
    if (typeof one !== 'object') return [[code(`${before}${name}`), 'anything', '']]
    const deeper = inside(one)
    const mayMiss = object.required?.includes(name) === true ? '' : ', may be missing'
    return [
      [code(`${before}${name}`), `${typeOf(one)}${mayMiss}`, one.description ?? ''],
      ...(deeper === null ? [] : rows(deeper.object, `${before}${name}${deeper.within}.`)),
    ]
  })

/** `` `result` is `done` ``: what tells it from the others. */
const mark = (object: JsonSchema): string | null => {
  for (const [name, one] of Object.entries(object.properties ?? {}))
    if (typeof one === 'object' && one.const !== undefined) return `${code(name)} is ${code(one.const)}`
  return null
}

const shape = (schema: JsonSchema): string => {
  if (schema.$ref !== undefined) return `A ${typeOf(schema)}.`
  const many = schema.anyOf ?? schema.oneOf
  if (many !== undefined)
    return many
      .map((one, at) => {
        const form = one as JsonSchema
        const which = mark(form)
        const lead = at === 0 ? 'Either' : 'Or'
        return `${which === null ? `${lead}:` : `${lead}, where ${which}:`}\n\n${shape(form)}`
      })
      .join('\n\n')
  if (schema.type === 'array') {
    const item = schema.items as JsonSchema
    return item.$ref === undefined ? `A list. Each has:\n\n${shape(item)}` : `A list, each a ${typeOf(item)}.`
  }
  return table([['Field', 'Value', 'Meaning'], ...rows(schema)])
}

export const outputInWords = (name: Name): string => shape(outputSchema(name))
export const formsInWords = (): string => {
  const all = whole('up').$defs ?? {}
  return Object.entries(all)
    .map(([name, form]) => `### Form ${name}\n\n${shape(form)}`)
    .join('\n\n')
}
