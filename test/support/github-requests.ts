/** Checks requests against GitHub's own description of its API, of which scripts/github-openapi.ts makes an excerpt. */
import { readdirSync, readFileSync } from 'node:fs'
import type { IncomingHttpHeaders } from 'node:http'
import { join, resolve } from 'node:path'
import { Ajv, type ValidateFunction } from 'ajv'

type Parameter = { name: string; in: 'path' | 'query'; required: boolean; slashes?: true; schema: object }
type Description = {
  id: string
  parameters: Parameter[]
  body: { required: boolean; schema: { properties?: object; additionalProperties?: unknown } } | null
}
const { from, operations } = JSON.parse(
  readFileSync(new URL('../fixtures/github/openapi.json', import.meta.url), 'utf8'),
) as { from: string; operations: Record<string, Description> }

export const operationIds: readonly string[] = Object.values(operations).map(({ id }) => id)

const folder = resolve(import.meta.dirname, '../../src/bot')
/** The operations that the bot's code names, as Octokit does: `issues.createComment`. */
export const operationsUsed: readonly string[] = readdirSync(folder, { recursive: true, encoding: 'utf8' })
  .filter(name => name.endsWith('.ts'))
  .map(name => readFileSync(join(folder, name), 'utf8'))
  .flatMap(code =>
    [...code.matchAll(/\.rest\s*\.([a-z]\w+)\s*\.([a-z]\w+)/g)].map(([, area, name]) => `${area}.${name}`),
  )

const formats = {
  'date-time': /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/,
  int64: true,
  'repo.nwo': true,
} as const
const ofBody = new Ajv({ allErrors: true, strict: false, formats })
/** All values in a URL are text. */
const ofUrl = new Ajv({ allErrors: true, strict: false, formats, coerceTypes: true })

type Operation = {
  method: string
  path: RegExp
  description: Description
  url: ValidateFunction
  body: ValidateFunction | null
}
/** GraphQL is described by its own schema, which github-graphql.ts follows. */
const graphql: Description = {
  id: 'graphql',
  parameters: [],
  body: {
    required: true,
    schema: {
      type: 'object',
      properties: { query: { type: 'string' }, variables: { type: 'object' } },
      required: ['query'],
    } as object,
  },
}
const known: Operation[] = Object.entries({ ...operations, 'POST /graphql': graphql })
  .map(([name, description]) => {
    const [method = '', template = ''] = name.split(' ')
    const { parameters, body } = description
    const slashes = (name: string) => parameters.some(parameter => parameter.name === name && parameter.slashes)
    return {
      method,
      description,
      path: new RegExp(
        `^${template.replaceAll(/\{(\w+)\}/g, (_, name) => `(?<${name}>${slashes(name) ? '.+' : '[^/]+'})`)}$`,
      ),
      // GitHub ignores what it does not describe, so that sending it is a mistake.
      url: ofUrl.compile({
        type: 'object',
        properties: Object.fromEntries(parameters.map(({ name, schema }) => [name, schema])),
        required: parameters.filter(({ required }) => required).map(({ name }) => name),
        additionalProperties: false,
      }),
      body:
        body === null
          ? null
          : ofBody.compile(
              body.schema.properties === undefined ? body.schema : { additionalProperties: false, ...body.schema },
            ),
    }
  })
  // `/issues/comments` is not an issue: the path with fewer parameters comes first.
  .sort((a, b) => a.description.parameters.length - b.description.parameters.length)

/** `body`: parsed, null when there is none. */
export const faultsOfRequest = ({
  method,
  path,
  headers,
  body,
}: {
  method: string
  path: string
  headers: IncomingHttpHeaders
  body: unknown
}): string[] => {
  const { pathname, searchParams } = new URL(path, 'http://front')
  const operation = known.find(candidate => candidate.method === method && candidate.path.test(pathname))
  if (operation === undefined)
    return [`${method} ${pathname}: ${from} has no such operation; node scripts/github-openapi.ts <operation> adds one`]
  const faults: string[] = []
  const check = (validate: ValidateFunction, value: unknown, where: string) => {
    if (validate(value)) return
    for (const { instancePath, message, params } of validate.errors ?? [])
      faults.push(`${where}${instancePath} ${message} ${JSON.stringify(params)}`)
  }
  const inPath = Object.entries(pathname.match(operation.path)?.groups ?? {})
  check(
    operation.url,
    Object.fromEntries([...inPath.map(([name, text]) => [name, decodeURIComponent(text)]), ...searchParams]),
    'the URL',
  )
  if (body === null) {
    if (operation.description.body?.required) faults.push('there is no body')
  } else if (operation.body === null) faults.push('there is a body')
  else check(operation.body, body, 'the body')
  if (body !== null && !headers['content-type']?.startsWith('application/json'))
    faults.push('the body is not sent as JSON')
  // GitHub answers no request without one.
  if (headers['user-agent'] === undefined) faults.push('there is no User-Agent')
  const isJwt = /^bearer [\w-]+\.[\w-]+\.[\w-]+$/i.test(headers.authorization ?? '')
  // Whoever has the code of a manifest may exchange it.
  const isPublic = operation.description.id === 'apps/create-from-manifest'
  if (headers.authorization === undefined) {
    if (!isPublic) faults.push('there is no Authorization')
  } else if (isJwt !== /^\/app(\/|$)|^\/repos\/[^/]+\/[^/]+\/installation$/.test(pathname))
    faults.push("the App's own resources need its JWT, and everything else a token")
  return faults.map(fault => `${method} ${path}: ${fault}`)
}
