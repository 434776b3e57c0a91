/** Requests held against GitHub's own description of its API; scripts/github-openapi.ts cuts it out. */
import { readdirSync, readFileSync } from 'node:fs'
import type { IncomingHttpHeaders } from 'node:http'
import { join, resolve } from 'node:path'
import { Ajv, type ValidateFunction } from 'ajv'

type Parameter = { name: string; in: 'path' | 'query'; required: boolean; slashes?: true; schema: object }
type Described = {
  id: string
  parameters: Parameter[]
  body: { required: boolean; schema: { properties?: object; additionalProperties?: unknown } } | null
}
const { from, operations } = JSON.parse(
  readFileSync(new URL('../fixtures/github/openapi.json', import.meta.url), 'utf8'),
) as { from: string; operations: Record<string, Described> }

export const operationIds: readonly string[] = Object.values(operations).map(one => one.id)

const room = resolve(import.meta.dirname, '../../src/bot')
/** The operations that the bot's code names, as Octokit does: `issues.createComment`. */
export const operationsUsed: readonly string[] = readdirSync(room, { recursive: true, encoding: 'utf8' })
  .filter(name => name.endsWith('.ts'))
  .map(name => readFileSync(join(room, name), 'utf8'))
  .flatMap(code =>
    [...code.matchAll(/\.rest\s*\.([a-z]\w+)\s*\.([a-z]\w+)/g)].map(([, area, name]) => `${area}.${name}`),
  )

const formats = {
  'date-time': /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/,
  int64: true,
  'repo.nwo': true,
} as const
const ofBody = new Ajv({ allErrors: true, strict: false, formats })
/** What stands in a URL is text. */
const ofUrl = new Ajv({ allErrors: true, strict: false, formats, coerceTypes: true })

type Operation = {
  method: string
  path: RegExp
  described: Described
  url: ValidateFunction
  body: ValidateFunction | null
}
const known: Operation[] = Object.entries(operations)
  .map(([name, described]) => {
    const [method = '', template = ''] = name.split(' ')
    const { parameters, body } = described
    const slashes = (name: string) => parameters.some(one => one.name === name && one.slashes)
    return {
      method,
      described,
      path: new RegExp(
        `^${template.replaceAll(/\{(\w+)\}/g, (_, name) => `(?<${name}>${slashes(name) ? '.+' : '[^/]+'})`)}$`,
      ),
      // What is not described means nothing to GitHub: whoever sends it is mistaken.
      url: ofUrl.compile({
        type: 'object',
        properties: Object.fromEntries(parameters.map(one => [one.name, one.schema])),
        required: parameters.filter(one => one.required).map(one => one.name),
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
  // `/issues/comments` is no issue: the more is named, the earlier.
  .sort((a, b) => a.described.parameters.length - b.described.parameters.length)

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
  const found = known.find(one => one.method === method && one.path.test(pathname))
  if (found === undefined)
    return [`${method} ${pathname}: ${from} has no such operation; node scripts/github-openapi.ts <operation> adds one`]
  const faults: string[] = []
  const hold = (validate: ValidateFunction, value: unknown, where: string) => {
    if (validate(value)) return
    for (const { instancePath, message, params } of validate.errors ?? [])
      faults.push(`${where}${instancePath} ${message} ${JSON.stringify(params)}`)
  }
  const inPath = Object.entries(pathname.match(found.path)?.groups ?? {})
  hold(
    found.url,
    Object.fromEntries([...inPath.map(([name, text]) => [name, decodeURIComponent(text)]), ...searchParams]),
    'the URL',
  )
  if (body === null) {
    if (found.described.body?.required) faults.push('there is no body')
  } else if (found.body === null) faults.push('there is a body')
  else hold(found.body, body, 'the body')
  if (body !== null && !headers['content-type']?.startsWith('application/json'))
    faults.push('the body is not sent as JSON')
  // GitHub answers none that does not say who asks.
  if (headers['user-agent'] === undefined) faults.push('there is no User-Agent')
  const isJwt = /^bearer [\w-]+\.[\w-]+\.[\w-]+$/i.test(headers.authorization ?? '')
  // Whoever has the code of a manifest may exchange it.
  const forAnybody = found.described.id === 'apps/create-from-manifest'
  if (headers.authorization === undefined) {
    if (!forAnybody) faults.push('there is no Authorization')
  } else if (isJwt !== /^\/app(\/|$)/.test(pathname))
    faults.push("what is the App's own needs its JWT, and everything else a token")
  return faults.map(fault => `${method} ${path}: ${fault}`)
}
