/** The `aws` program: each command takes its input as JSON, and answers with JSON. */
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import * as v from 'valibot'
import { fail, isFailure } from '../../src/errors.ts'
import type { Tools } from '../provider.ts'
import { ANSWERS, explainAws, INSTALL } from './explain.ts'
import type { AwsSettings } from './settings.ts'

/** `ec2 describe-instances`. */
export type Command = `${'ec2' | 'sts' | 'pricing'} ${string}`
type AskOptions = {
  /** What was being done, for failures. */
  doing: string
  /** The input holds a secret: it goes through a file that only this user can read, never through the command line. */
  secret?: true
  /** Another region than that of the machines. */
  region?: string
  /** Milliseconds, where less than usual is enough. */
  deadline?: number
  signal?: AbortSignal | undefined
}
export type Aws = {
  /** The answer, as far as the schema describes it. */
  ask<Schema extends v.GenericSchema>(
    command: Command,
    input: object,
    schema: Schema,
    options: AskOptions,
  ): Promise<v.InferOutput<Schema>>
  /** A command whose answer does not matter. Some print nothing. */
  tell(command: Command, input: object, options: AskOptions): Promise<void>
  /** Of the program: `2.9.19`. */
  version(doing: string): Promise<string>
}

/** AWS repeats what it throttled, and what it could not do at the moment. */
const ENVIRONMENT = { AWS_CLI_AUTO_PROMPT: 'off', AWS_MAX_ATTEMPTS: '5', AWS_RETRY_MODE: 'standard', AWS_PAGER: '' }
const DEADLINE_MS = 90_000
/** Characters: a machine takes about 8,000. */
const MAX_OUTPUT = 64 * 1024 ** 2

/** What a process that was killed left: no command reads its file for so long. It may hold a seed. Milliseconds. */
const LEFT_MS = 60 * 60_000
const removeLeft = (root: string): void => {
  for (const name of readdirSync(root).filter(each => each.startsWith('tmp-'))) {
    const folder = join(root, name)
    const { mtimeMs = Date.now() } = statSync(folder, { throwIfNoEntry: false }) ?? {}
    if (Date.now() - mtimeMs > LEFT_MS) rmSync(folder, { recursive: true, force: true })
  }
}

/** The provider's own folder. */
export const folderOf = ({ home }: Pick<Tools<unknown>, 'home'>): string => {
  const folder = join(home, 'aws')
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  return folder
}

const withInput = async <T>(
  tools: Pick<Tools<unknown>, 'home'>,
  text: string,
  secret: boolean,
  use: (value: string) => Promise<T>,
): Promise<T> => {
  if (!secret) return use(text)
  const root = folderOf(tools)
  removeLeft(root)
  const folder = mkdtempSync(join(root, 'tmp-'))
  try {
    const path = join(folder, 'input.json')
    writeFileSync(path, text, { mode: 0o600 })
    return await use(`file://${path}`)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

export const openAwsProgram = (tools: Pick<Tools<AwsSettings>, 'run' | 'home' | 'settings'>): Aws => {
  const run = async (
    argv: readonly string[],
    doing: string,
    more: { deadline?: number; signal?: AbortSignal } = {},
  ) => {
    const options = { deadline: DEADLINE_MS, maxOutput: MAX_OUTPUT, env: ENVIRONMENT, answers: ANSWERS, doing, ...more }
    const ran = await tools.run('aws', argv, options).catch((error: unknown) => {
      if (!isFailure(error) || error.failure.kind !== 'provider-missing') throw error
      throw fail('provider-missing', `${doing}: the AWS CLI is not installed`, INSTALL)
    })
    if (ran.exitCode !== 0) throw explainAws(doing, ran.exitCode, ran.stderr)
    return ran
  }
  const execute = (command: Command, input: object, { doing, secret, region, deadline, signal }: AskOptions) =>
    withInput(tools, JSON.stringify(input), secret === true, async value => {
      const { awsRegion, awsProfile: profile } = tools.settings
      const where = region ?? awsRegion
      const argv = [
        ...command.split(' '),
        ...['--cli-input-json', value, '--output', 'json', '--no-cli-pager'],
        ...(where === null ? [] : ['--region', where]),
        ...(profile === null ? [] : ['--profile', profile]),
      ]
      const more = { ...(signal === undefined ? {} : { signal }), ...(deadline === undefined ? {} : { deadline }) }
      return (await run(argv, doing, more)).stdout
    })
  return {
    ask: async (command, input, schema, options) => {
      const stdout = await execute(command, input, options)
      const unreadable = () => fail('unknown', `${options.doing}: aws ${command} answered something else than expected`)
      let answer: unknown
      try {
        answer = JSON.parse(stdout)
      } catch {
        throw unreadable()
      }
      const parsed = v.safeParse(schema, answer)
      if (!parsed.success) throw unreadable()
      return parsed.output
    },
    tell: async (command, input, options) => void (await execute(command, input, options)),
    version: async doing => {
      const { stdout } = await run(['--version'], doing)
      return /^aws-cli\/(\d+(?:\.\d+)+)/.exec(stdout)?.[1] ?? 'unknown'
    },
  }
}
