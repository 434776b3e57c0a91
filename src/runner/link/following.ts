/** Reads what grows in a machine: a question for each chunk, so that nothing comes that was not asked for. */
import { fail, failureOf } from '../../errors.ts'
import type { Log } from '../../log.ts'
import type { Conversation } from './conversation.ts'
import { type Activity, type Follower, MAX_CHUNK } from './types.ts'

/** Between two looks at a file that has not grown. */
const LOOK_MS = 1_000
/** Between two questions when there is nothing to read. */
const BEAT_MS = 15_000
/** Between two questions how the machine is used, at a beat. */
const ACTIVITY_MS = 55_000
/** Below GUEST_STATE/agent. */
const FILE = /^(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._/-]{0,199}$/

type Followed = Follower & { path: string; offset: number; lookAt: number; isShorter: boolean }

/** The files that one link follows; they outlive its connections. */
export const openFollowed = () => {
  const all = new Set<Followed>()
  let wake = Promise.withResolvers<void>()
  return {
    all,
    add: (path: string, offset: number, follower: Follower): (() => void) => {
      if (!FILE.test(path) || !Number.isSafeInteger(offset) || offset < 0)
        throw fail('usage', `following ${JSON.stringify(path)} from ${offset}: it is not a file of an agent`)
      const followed = { ...follower, path, offset, lookAt: 0, isShorter: false }
      all.add(followed)
      wake.resolve()
      return () => void all.delete(followed)
    },
    wake: () => wake.resolve(),
    /** Resolves after `wait` milliseconds, when a file was added, or by `wake`. */
    pause: async (wait: number): Promise<void> => {
      let timer: NodeJS.Timeout | undefined
      const passed = new Promise<void>(resolve => {
        timer = setTimeout(resolve, wait)
      })
      await Promise.race([passed, wake.promise])
      clearTimeout(timer)
      wake = Promise.withResolvers()
    },
  }
}
export type FollowedFiles = ReturnType<typeof openFollowed>

/** `ports`: those whose connections count. */
export type AskActivity = { ports: () => readonly number[]; report: (activity: Activity) => void }
type Talk = {
  conversation: Conversation
  write: (text: string) => void
  files: FollowedFiles
  log: Log
  /** Null: nobody asks how the machine is used. */
  activity: AskActivity | null
}

const readOnce = async ({ conversation, write, files, log }: Talk, followed: Followed): Promise<void> => {
  const { path, offset } = followed
  const [, said = '', base64 = ''] = await conversation.ask(/^data (\d{1,15}) ([A-Za-z0-9+/]*={0,2})$/, {
    send: () => write(`read ${offset} ${path}\n`),
  })
  const bytes = Buffer.from(base64, 'base64').subarray(0, MAX_CHUNK)
  const size = Number(said)
  if (!files.all.has(followed)) return
  followed.lookAt = bytes.length > 0 ? 0 : performance.now() + LOOK_MS
  try {
    if (bytes.length > 0) await followed.onChunk(bytes, offset)
    else if (size < offset && !followed.isShorter) followed.onShorter?.(size)
    followed.isShorter = size < offset
    followed.offset += bytes.length
  } catch (error) {
    files.all.delete(followed)
    log.warn({ err: error, path }, `no longer following ${path}: ${failureOf(error, 'reading it').message}`)
  }
}

const askActivity = async ({ conversation, write }: Talk, { ports, report }: AskActivity): Promise<void> => {
  const [, sessions, connections, load] = await conversation.ask(
    /^activity (\d{1,6}) (\d{1,6}) (\d{1,6}(?:\.\d{1,2})?)$/,
    {
      send: () => write(`activity ${ports().join(',') || '-'}\n`),
    },
  )
  report({ sessions: Number(sessions), connections: Number(connections), load: Number(load) })
}

/** A sign of life, which says how the machine is used when that is due. Returns whether it did. */
const beat = async (talking: Talk, isActivityDue: boolean): Promise<boolean> => {
  const { conversation, write, activity } = talking
  if (activity !== null && isActivityDue) {
    await askActivity(talking, activity)
    return true
  }
  await conversation.ask(/^beat$/, { send: () => write('beat\n') })
  return false
}

/** Reads the files, and asks for a sign of life when there is nothing to read, until the conversation ends: it throws then. */
export const talk = async (talking: Talk): Promise<never> => {
  const { conversation, files } = talking
  conversation.onOver(files.wake)
  conversation.throwIfOver()
  let beatAt = performance.now() + (talking.activity === null ? BEAT_MS : 0)
  let activityAt = beatAt
  while (true) {
    const now = performance.now()
    const due = [...files.all].filter(({ lookAt }) => lookAt <= now)
    for (const followed of due) await readOnce(talking, followed)
    if (due.length === 0 && beatAt <= now && (await beat(talking, activityAt <= now)))
      activityAt = performance.now() + ACTIVITY_MS
    if (due.length > 0 || beatAt <= now) beatAt = performance.now() + BEAT_MS
    const next = Math.min(beatAt, ...[...files.all].map(({ lookAt }) => lookAt))
    const wait = next - performance.now()
    if (wait > 0) await files.pause(wait)
    conversation.throwIfOver()
  }
}
