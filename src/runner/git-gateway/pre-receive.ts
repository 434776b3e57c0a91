/**
 * The hook that git runs in a mirror before it takes a push. It decides nothing: it asks the process that started git, on descriptor 3,
 * and prints the answer for the person. When that process is gone, it ends with a failure, and nothing changes.
 */
import { chmodSync } from 'node:fs'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import { writeFileAtomic } from '../../files.ts'
import type { RefUpdate } from './policy.ts'

const SCRIPT = `#!/bin/sh
{ printf '%s\\n' "$GIT_QUARANTINE_PATH" && cat && echo; } >&3 || exit 1
while IFS= read -r line <&3; do
  case $line in
    yes) exit 0 ;;
    no) exit 1 ;;
    *) printf '%s\\n' "\${line#:}" >&2 ;;
  esac
done
echo 'agent-swarm: the runner ended during the push. Try again.' >&2
exit 1
`
export const PRE_RECEIVE = { folder: '.hooks', name: 'pre-receive' }

export const writeHook = (folder: string): void => {
  const file = join(folder, PRE_RECEIVE.name)
  writeFileAtomic(file, SCRIPT, { mode: 0o700 })
  chmodSync(folder, 0o700)
}

/** What the hook asks: the folder of the new objects, null when there are none, and the changes. */
export type Question = { quarantine: string | null; updates: RefUpdate[] }
export type Answer = { isAllowed: boolean; lines: readonly string[] }

/** In characters: some 5,000 refs. */
const MAX_QUESTION = 1024 * 1024

const orNull = (id: string) => (/^0+$/.test(id) ? null : id)
/** Throws when it is not what the hook writes. */
const parseQuestion = (text: string): Question => {
  const [quarantine = '', ...lines] = text.split('\n')
  const updates = lines.map(line => {
    const [, from = '', to = '', ref = ''] = line.match(/^([0-9a-f]{40}) ([0-9a-f]{40}) (refs\/\S+)$/) ?? []
    if (ref === '') throw new Error('git told the hook something else than changes of refs')
    return { ref, from: orNull(from), to: orNull(to) }
  })
  return { quarantine: quarantine === '' ? null : quarantine, updates }
}

/** Answers the one question of a hook on its channel. A channel without a question is only read to its end. */
export const answerHook = (channel: Duplex, answer: (question: Question) => Promise<Answer>): void => {
  let text: string | null = ''
  const reply = ({ isAllowed, lines }: Answer) => {
    // A colon before each line: none of them is an answer.
    channel.end([...lines.map(line => `:${line}\n`), isAllowed ? 'yes\n' : 'no\n'].join(''))
  }
  channel.on('error', () => {})
  channel.setEncoding('utf8')
  channel.on('data', (chunk: string) => {
    if (text === null) return
    text += chunk
    const isTooLong = text.length > MAX_QUESTION
    if (!isTooLong && !text.endsWith('\n\n')) return
    const question = text.slice(0, -2)
    text = null
    if (isTooLong) reply({ isAllowed: false, lines: ['agent-swarm: the push changes too many refs.'] })
    else
      Promise.resolve(question)
        .then(parseQuestion)
        .then(answer)
        .then(reply, () =>
          reply({ isAllowed: false, lines: ['agent-swarm: the push could not be decided. Try again.'] }),
        )
  })
}
