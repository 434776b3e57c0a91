/**
 * The `aws` program in front of our stand-in for EC2: the real one, led to it; or a stand-in without Python's two seconds, for what the
 * program's own checks have no part in. Both say errors in the same words.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import type { Run } from '../../../src/exec.ts'
import { type Ec2, tagValue } from './ec2.ts'
import type { Ec2Error } from './state.ts'
import { readQuery, writeError, writeXml } from './wire.ts'

const AWS = '/usr/bin/aws'
const versionOf = () => spawnSync(AWS, ['--version'], { encoding: 'utf8' }).stdout ?? ''
/** Null: the tests can run. */
export const noAws = (): string | null => {
  if (!existsSync(AWS)) return `${AWS} is not installed (Debian's package awscli)`
  return versionOf().startsWith('aws-cli/2.') ? null : `${AWS} is not version 2`
}

type Answer = { exitCode: number; stdout: string; stderr: string }

const isEc2Error = (error: unknown): error is Ec2Error => error instanceof Error && 'code' in error

const bodyOf = async (request: IncomingMessage): Promise<string> => {
  const parts: Buffer[] = []
  for await (const part of request) parts.push(part as Buffer)
  return Buffer.concat(parts).toString('utf8')
}

/** What a guest answers over SSH: `command` is what ssh was given, `input` its standard input. */
export type Guest = (vmId: string, command: string, input: string) => Promise<Answer> | Answer

/** Of the machine at this address. Nobody answers at that of a machine that does not run. */
const overSsh = async (ec2: Ec2, guest: Guest, argv: readonly string[], input: string): Promise<Answer> => {
  const [host, ...command] = argv.slice(argv.indexOf('--') + 1)
  const instance = [...ec2.state.instances.values()].find(each => each.publicIp === host && each.state === 'running')
  if (instance === undefined)
    return { exitCode: 255, stdout: '', stderr: `ssh: connect to host ${host} port 22: Connection refused\n` }
  return guest(tagValue(instance.tags, 'agent-swarm:vm') ?? '', command.join(' '), input)
}

/** On loopback. AWS's own protocols at `/`, the stand-in at `/stand-in`, and guests at `/ssh`. */
export const openServer = async (
  ec2: Ec2,
  guest: Guest = () => ({ exitCode: 255, stdout: '', stderr: 'Connection refused' }),
) => {
  const server = createServer(async (request, response) => {
    const body = await bodyOf(request)
    const send = (status: number, type: string, text: string) => {
      response.writeHead(status, { 'content-type': type })
      response.end(text)
    }
    if (request.url === '/stand-in' || request.url === '/ssh') {
      const { argv, input } = JSON.parse(body) as { argv: string[]; input: string }
      const answer = request.url === '/ssh' ? await overSsh(ec2, guest, argv, input) : standIn(ec2, argv)
      return send(200, 'application/json', JSON.stringify(answer))
    }
    const target = request.headers['x-amz-target']
    try {
      if (typeof target === 'string') {
        const answer = ec2.call(target.split('.').at(-1) ?? '', JSON.parse(body))
        return send(200, 'application/x-amz-json-1.1', JSON.stringify(answer))
      }
      const { action, input } = readQuery(body)
      return send(200, 'text/xml', writeXml(action, ec2.call(action, input)))
    } catch (error) {
      if (!isEc2Error(error)) return send(500, 'text/plain', String(error))
      const { code, message } = error
      return typeof target === 'string'
        ? send(400, 'application/x-amz-json-1.1', JSON.stringify({ __type: code, message }))
        : send(400, 'text/xml', writeError(code, message))
    }
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}`,
    close: () =>
      new Promise<void>(resolve => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

// ── The stand-in ──

const PRINTS_NOTHING = ['CreateTags', 'DeleteSnapshot', 'DeleteVolume', 'DeregisterImage']
const pascal = (command: string) =>
  command
    .split('-')
    .map(word => `${word.charAt(0).toUpperCase()}${word.slice(1)}`)
    .join('')
const wrong = (text: string): Answer => ({ exitCode: 252, stdout: '', stderr: `\n${text}\n` })

/** What the program does with a command line: its input comes as JSON, and UserData is encoded by the program itself. */
const standIn = (ec2: Ec2, argv: readonly string[]): Answer => {
  const [service = '', command = '', ...rest] = argv
  if (service === '--version')
    return {
      exitCode: 0,
      stdout: 'aws-cli/2.9.19 Python/3.11.2 Linux/6.1.0 source/x86_64.debian.12 prompt/off\n',
      stderr: '',
    }
  if (!['ec2', 'sts', 'pricing'].includes(service)) return wrong(`argument command: Invalid choice: '${service}'`)
  const options = new Map<string, string>()
  for (let at = 0; at < rest.length; at += 1) {
    const name = rest[at] ?? ''
    if (name === '--no-cli-pager') continue
    if (!['--cli-input-json', '--output', '--region', '--profile', '--endpoint-url'].includes(name))
      return wrong(`Unknown options: ${name}`)
    at += 1
    options.set(name, rest[at] ?? '')
  }
  const profile = options.get('--profile') ?? ec2.profile
  if (profile !== ec2.profile)
    return { exitCode: 255, stdout: '', stderr: `\nThe config profile (${profile}) could not be found\n` }
  const given = options.get('--cli-input-json') ?? '{}'
  const text = given.startsWith('file://') ? readFileSync(given.slice('file://'.length), 'utf8') : given
  const input = JSON.parse(text) as Record<string, unknown>
  if (typeof input.UserData === 'string') input.UserData = Buffer.from(input.UserData).toString('base64')
  const action = pascal(command)
  try {
    const answer = ec2.call(action, input)
    return { exitCode: 0, stdout: PRINTS_NOTHING.includes(action) ? '' : JSON.stringify(answer, null, 4), stderr: '' }
  } catch (error) {
    if (!isEc2Error(error)) throw error
    const { code, message } = error
    return {
      ...{ exitCode: 254, stdout: '' },
      stderr: `\nAn error occurred (${code}) when calling the ${action} operation: ${message}\n`,
    }
  }
}

/** In this process, in place of the door to programs. `seen` gets the command lines. */
export const standInRun =
  (ec2: Ec2, seen: (argv: readonly string[]) => void = () => {}): Run =>
  async (program, argv, { answers = [], doing } = {}) => {
    if (program !== 'aws') throw new Error(`a unit test ran ${program}`)
    seen(argv)
    const { exitCode, stdout, stderr } = standIn(ec2, argv)
    if (exitCode !== 0 && !answers.includes(exitCode)) throw new Error(`${doing}: ${stderr}`)
    return { exitCode, stdout, stderr, milliseconds: 0 }
  }

const STAND_IN = `#!${process.execPath}
const http = require('node:http')
const input = 'ROUTE' === '/ssh' ? require('node:fs').readFileSync(0, 'utf8') : ''
const request = http.request('URLROUTE', { method: 'POST' }, response => {
  const parts = []
  response.on('data', part => parts.push(part))
  response.on('end', () => {
    const { exitCode, stdout, stderr } = JSON.parse(Buffer.concat(parts).toString())
    process.stdout.write(stdout)
    process.stderr.write(stderr)
    process.exitCode = exitCode
  })
})
request.on('error', () => {
  process.stderr.write('\\nCould not connect to the endpoint URL: "URL"\\n')
  process.exitCode = 255
})
request.end(JSON.stringify({ argv: process.argv.slice(2), input }))
`

const standInText = (url: string, route: string) => STAND_IN.replaceAll('URL', url).replaceAll('ROUTE', route)

/** Writes `folder/ssh`, which asks the guests of the server. */
export const installSsh = (folder: string, url: string): void =>
  writeFileSync(join(folder, 'ssh'), standInText(url, '/ssh'), { mode: 0o755 })

/** Writes `folder/aws`, for PATH. With the real one: credentials of nobody, in `home`. */
export const installProgram = (kind: 'real' | 'stand-in', folder: string, home: string, url: string): void => {
  mkdirSync(folder, { recursive: true })
  const text = kind === 'real' ? `#!/bin/sh\nexec ${AWS} --endpoint-url ${url} "$@"\n` : standInText(url, '/stand-in')
  writeFileSync(join(folder, 'aws'), text, { mode: 0o755 })
  mkdirSync(join(home, '.aws'), { recursive: true })
  writeFileSync(
    join(home, '.aws', 'credentials'),
    '[default]\naws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = nobody\n',
  )
}
