/** What the guest agent of QEMU does for us where no network leads. All that it answers is a guest's, and hostile. */
import { setTimeout as delay } from 'node:timers/promises'
import { fail, failureOf, isFailure } from '../../src/errors.ts'
import type { Context } from './context.ts'

const ANSWER_SECONDS = 20
/** Each look is a process of the host, which the guest may need. The next one is later each time. */
const POLL_MS = { first: 200, most: 2_000 }
const after = (pause: number): number => Math.min(pause * 1.4, POLL_MS.most)
/** An agent that was in the middle of something goes on with that first. */
const READY_DEADLINE_MS = 120_000
/** Characters of what a guest printed. */
const MAX_REASON = 1_000

const ENABLE =
  'Allow it in the image (/etc/sysconfig/qemu-ga or /etc/qemu/qemu-ga.conf), or fork a checkpoint of the stopped machine.'

type Answer = { pid?: unknown; exited?: unknown; exitcode?: unknown; 'out-data'?: unknown; 'err-data'?: unknown }

/** The last answer in what virsh printed. */
const parseAnswer = (text: string): Answer => {
  const line = text.split('\n').findLast(each => /^(?:virsh # )?\{"return":/.test(each)) ?? ''
  try {
    const answer: unknown = JSON.parse(line.replace(/^virsh # /, ''))
    const value = typeof answer === 'object' && answer !== null && 'return' in answer ? answer.return : null
    return typeof value === 'object' && value !== null ? value : {}
  } catch {
    return {}
  }
}

const decoded = (data: unknown): string =>
  typeof data === 'string' ? Buffer.from(data, 'base64').toString('utf8') : ''

/** A disk needs a while. */
const SYNC_DEADLINE_MS = 60_000

const request = (id: string, execute: string, words: Record<string, unknown> = {}) => [
  ...['qemu-agent-command', id, '--timeout', String(ANSWER_SECONDS)],
  JSON.stringify({ execute, arguments: words }),
]

/** Returns when the agent answers. */
export const waitForAgent = async (context: Context, id: string, deadline = READY_DEADLINE_MS): Promise<void> => {
  const end = performance.now() + deadline
  for (let pause = POLL_MS.first; ; pause = after(pause)) {
    try {
      await context.virsh.run(request(id, 'guest-ping'), { doing: `asking the guest agent of ${id}` })
      return
    } catch (error) {
      if (performance.now() > end)
        throw fail(
          'guest-unreachable',
          failureOf(error, 'asking the guest agent').message,
          'A fork needs the service qemu-guest-agent in the machine: start it there.',
        )
    }
    await delay(pause)
  }
}

/** Runs a script as root in the guest. The script may hold a secret. Returns what it printed; fails when it fails. */
export const runByAgent = async (
  context: Context,
  id: string,
  script: string,
  { doing, deadline }: { doing: string; deadline: number },
): Promise<string> => {
  const { virsh } = context
  const words = {
    path: '/bin/sh',
    arg: ['-s'],
    'input-data': Buffer.from(script).toString('base64'),
    'capture-output': true,
  }
  const begun = parseAnswer(
    await virsh.secretly(request(id, 'guest-exec', words), { doing }).catch(error => {
      if (!/has been disabled|not been found|not found|not allowed/i.test(String(error))) throw error
      throw fail('unsupported', `${doing}: its guest agent runs no commands (guest-exec)`, ENABLE, error)
    }),
  )
  if (typeof begun.pid !== 'number')
    throw fail('guest-unreachable', `${doing}: its guest agent gave no answer that makes sense`)
  const end = performance.now() + deadline
  for (let pause = POLL_MS.first; ; pause = after(pause)) {
    await delay(pause)
    const now = parseAnswer(await virsh.run(request(id, 'guest-exec-status', { pid: begun.pid }), { doing }))
    if (now.exited === true) {
      if (now.exitcode === 0) return decoded(now['out-data'])
      const reason = (decoded(now['err-data']).trim() || decoded(now['out-data']).trim())
        .slice(-MAX_REASON)
        .replaceAll(/[\p{Cc}\p{Cf}]+/gu, ' ')
      throw fail('unknown', `${doing}: ${reason || 'the guest ended it without a word'}`)
    }
    if (performance.now() > end) throw fail('timeout', `${doing}: not done within ${deadline / 1000} s`)
  }
}

/**
 * Has the guest write its files to its disk. It does not stand still for that: one that is frozen (`domfsfreeze`) would stay so if
 * we died. Without an agent that runs commands, the disk is as after a power cut.
 */
export const syncByAgent = async (context: Context, id: string): Promise<void> => {
  const doing = `having ${id} write its files to its disk`
  await runByAgent(context, id, 'sync', { doing, deadline: SYNC_DEADLINE_MS }).catch(error => {
    if (isFailure(error) && error.failure.kind === 'cancelled') throw error
  })
}
