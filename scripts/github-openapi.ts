/**
 * node scripts/github-openapi.ts [operation…]: what GitHub's own description says of the requests that we send, cut out of
 * @octokit/openapi. The package is 400 MB; what is kept is what a request is held against. Operations that are named are
 * added to those that are there.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'

const VERSION = '23.0.2'
const FILE = resolve(import.meta.dirname, '../test/fixtures/github/openapi.json')
/** Words for people. */
const LEFT_OUT = new Set(['description', 'example', 'examples', 'externalDocs', 'title', 'deprecated'])

type Json = Record<string, unknown>
type Parameter = { name: string; in: string; required?: boolean; schema: unknown; 'x-multi-segment'?: boolean }
type Operation = { operationId: string; parameters?: Json[]; requestBody?: Json }
type Description = { paths: Record<string, Record<string, Operation>> }

const known = JSON.parse(readFileSync(FILE, 'utf8')) as { operations: Record<string, { id: string }> }
const wanted = new Set([...Object.values(known.operations).map(one => one.id), ...process.argv.slice(2)])

const folder = mkdtempSync(join(tmpdir(), 'agent-swarm-openapi-'))
try {
  execFileSync('npm', ['pack', '--silent', `@octokit/openapi@${VERSION}`], {
    cwd: folder,
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  const inside = 'package/generated/api.github.com.json'
  execFileSync('tar', ['xzf', `octokit-openapi-${VERSION}.tgz`, inside], { cwd: folder, stdio: 'inherit' })
  const description = JSON.parse(readFileSync(join(folder, inside), 'utf8')) as Description

  const at = (ref: string): unknown =>
    ref
      .slice(2)
      .split('/')
      .reduce<unknown>((value, step) => (value as Json)[step], description)
  /** References replaced by what they mean, and words left out. Names of properties are no words. */
  const plain = (value: unknown, names: boolean): unknown => {
    if (Array.isArray(value)) return value.map(one => plain(one, false))
    if (typeof value !== 'object' || value === null) return value
    const { $ref } = value as { $ref?: unknown }
    if (typeof $ref === 'string') return plain(at($ref), names)
    // Ajv takes it beside a type alone.
    if (!names && 'nullable' in value && !('type' in value)) {
      const { nullable: _, ...rest } = value
      return { anyOf: [plain(rest, false), { type: 'null' }] }
    }
    return Object.fromEntries(
      Object.entries(value)
        .filter(([name]) => names || !LEFT_OUT.has(name))
        .map(([name, held]) => [name, plain(held, name === 'properties' && !names)]),
    )
  }

  const operations: Json = {}
  for (const [path, methods] of Object.entries(description.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      if (!wanted.delete(operation.operationId)) continue
      const { parameters = [], requestBody } = plain(operation, false) as {
        parameters?: Parameter[]
        requestBody?: { required?: boolean; content: Record<string, { schema: unknown }> }
      }
      operations[`${method.toUpperCase()} ${path}`] = {
        id: operation.operationId,
        parameters: parameters.map(one => ({
          name: one.name,
          in: one.in,
          required: one.required === true,
          ...(one['x-multi-segment'] === true ? { slashes: true } : {}),
          schema: one.schema,
        })),
        body:
          requestBody === undefined
            ? null
            : {
                required: requestBody.required === true,
                schema: requestBody.content['application/json']?.schema ?? {},
              },
      }
    }
  }
  if (wanted.size > 0) throw new Error(`GitHub's description has no operation ${[...wanted].join(', ')}`)
  writeFileSync(
    FILE,
    `${JSON.stringify({ from: `@octokit/openapi ${VERSION}, api.github.com`, operations }, null, 2)}\n`,
  )
} finally {
  rmSync(folder, { recursive: true, force: true })
}
