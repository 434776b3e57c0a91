import { afterEach, expect, test, vi } from 'vitest'
import { fail } from '../src/errors.ts'
import { openLog } from '../src/log.ts'

const lines: string[] = []
vi.spyOn(process.stderr, 'write').mockImplementation(line => {
  lines.push(String(line))
  return true
})
afterEach(() => lines.splice(0))
const KEY = '-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA\n-----END RSA PRIVATE KEY-----'

test.for<[string, (log: ReturnType<typeof openLog>) => void]>([
  ['in the message', log => log.info('the token is hush-hush')],
  ['in a field', log => log.info({ note: 'hush-hush' }, 'x')],
  ['nested in fields', log => log.info({ a: { b: { c: { d: ['hush-hush'] } } } }, 'x')],
  ['in a URL', log => log.info({ url: 'https://me:hush-hush@example.org/' }, 'x')],
  ['in an error', log => log.error({ err: new Error('401 for hush-hush') }, 'x')],
  ['in a failure of ours', log => log.error({ err: fail('network', 'asking with hush-hush', 'hush-hush') }, 'x')],
  ['in a child', log => log.child({ who: 'hush-hush' }).info('x')],
  ['a private key, whose line breaks JSON writes its own way', log => log.info({ key: KEY }, KEY)],
])('a secret %s is not written', ([, say]) => {
  say(openLog('info', ['hush-hush', KEY]))
  expect(lines.join()).not.toMatch(/hush-hush|MIIEowIBAAKCAQEA/)
  expect(lines.join()).toContain('[redacted]')
})

test('fields with names of secrets are cut out, whatever they hold', () => {
  openLog('info').info(
    { headers: { authorization: 'Bearer x1' }, apiToken: 'x2', jira: { settings: { apiToken: 'x3' } } },
    'x',
  )
  expect(lines.join()).not.toMatch(/x1|x2|x3/)
})
