/** Payloads that are made by hand, held against GitHub's own description of its webhooks. */
import { createRequire } from 'node:module'
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js'

type Webhook = { post: { requestBody: { content: { 'application/json': { schema: object } } } } }
type Description = { webhooks: Record<string, Webhook>; components: object }

const require = createRequire(import.meta.url)
// The package's own entry loads the descriptions of all versions: only this one's is wanted, when it is.
const read = (): Description => require('@octokit/openapi-webhooks/generated/api.github.com.json')

let described: { webhooks: Description['webhooks']; ajv: Ajv2020 } | null = null
const description = () => {
  if (described !== null) return described
  const { webhooks, components } = read()
  const ajv = new Ajv2020({
    allErrors: true,
    strict: false,
    logger: false,
    validateFormats: false,
    validateSchema: false,
  })
  ajv.addSchema({ $id: 'github', components })
  described = { webhooks, ajv }
  return described
}

const compiled = new Map<string, ValidateFunction | null>()
const validatorOf = (name: string): ValidateFunction | null => {
  const known = compiled.get(name)
  if (known !== undefined) return known
  const { webhooks, ajv } = description()
  const schema = Object.hasOwn(webhooks, name)
    ? webhooks[name]?.post.requestBody.content['application/json'].schema
    : undefined
  const inside = schema === undefined ? null : JSON.stringify(schema).replaceAll('"#/components', '"github#/components')
  const made = inside === null ? null : ajv.compile(JSON.parse(inside))
  compiled.set(name, made)
  return made
}

/** What GitHub's description finds wrong in a payload. */
export const faultsOfPayload = (event: string, payload: { action?: unknown }): string[] => {
  const name = [event, ...(typeof payload.action === 'string' ? [payload.action] : [])].join('-').replaceAll('_', '-')
  const validate = validatorOf(name)
  if (validate === null) return [`GitHub sends no ${name}`]
  if (validate(payload)) return []
  return (validate.errors ?? []).map(fault => `${fault.instancePath} ${fault.message} ${JSON.stringify(fault.params)}`)
}
