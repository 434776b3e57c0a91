/** Checks hand-made payloads against GitHub's own description of its webhooks. */
import { createRequire } from 'node:module'
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js'

type Webhook = { post: { requestBody: { content: { 'application/json': { schema: object } } } } }
type Description = { webhooks: Record<string, Webhook>; components: object }

const require = createRequire(import.meta.url)
// The package's own entry loads the descriptions of all versions. This one is loaded when it is needed.
const read = (): Description => require('@octokit/openapi-webhooks/generated/api.github.com.json')

let loaded: { webhooks: Description['webhooks']; ajv: Ajv2020 } | null = null
const description = () => {
  if (loaded !== null) return loaded
  const { webhooks, components } = read()
  const ajv = new Ajv2020({
    allErrors: true,
    strict: false,
    logger: false,
    validateFormats: false,
    validateSchema: false,
  })
  ajv.addSchema({ $id: 'github', components })
  loaded = { webhooks, ajv }
  return loaded
}

const validators = new Map<string, ValidateFunction | null>()
const validatorOf = (name: string): ValidateFunction | null => {
  const known = validators.get(name)
  if (known !== undefined) return known
  const { webhooks, ajv } = description()
  const schema = Object.hasOwn(webhooks, name)
    ? webhooks[name]?.post.requestBody.content['application/json'].schema
    : undefined
  const text = schema === undefined ? null : JSON.stringify(schema).replaceAll('"#/components', '"github#/components')
  const validator = text === null ? null : ajv.compile(JSON.parse(text))
  validators.set(name, validator)
  return validator
}

/** What GitHub's description finds wrong in a payload. */
export const faultsOfPayload = (event: string, payload: { action?: unknown }): string[] => {
  const name = [event, ...(typeof payload.action === 'string' ? [payload.action] : [])].join('-').replaceAll('_', '-')
  const validate = validatorOf(name)
  if (validate === null) return [`GitHub sends no ${name}`]
  if (validate(payload)) return []
  return (validate.errors ?? []).map(error => `${error.instancePath} ${error.message} ${JSON.stringify(error.params)}`)
}
