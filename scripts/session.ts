/**
 * Records a session on a terminal into docs/cli-session.md, between its markers: the real program on real machines, with its
 * input, output and times. It needs libvirt and a base image, for example: test/kvm/run.sh --run npm run session
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { pick } from '../src/exec.ts'
import { onTerminal } from '../test/support/terminal.ts'

const root = resolve(import.meta.dirname, '..')
const page = join(root, 'docs/cli-session.md')
const MARKS = /(<!-- session -->\n)[\s\S]*?(<!-- \/session -->)/
const TICKET = 'DROP-2100'

const session = [
  ['providers'],
  ['create', TICKET],
  ['ssh', TICKET, '--', 'echo "as it was" > note; uname -sr; uptime -p'],
  ['checkpoint', TICKET, 'before-refactor'],
  ['ssh', TICKET, '--', 'rm note; ls'],
  ['list'],
  ['restore', TICKET, 'before-refactor'],
  ['ssh', TICKET, '--', 'cat note'],
  ['delete', TICKET],
]

/** What is left to be seen: a line that was drawn again and again is there once. */
const settled = (screen: string) =>
  screen
    .split('\n')
    .map(line => line.split('\r\u001b[K').at(-1)?.trimEnd())
    .join('\n')
    .trimEnd()
const typed = (words: readonly string[]) => words.map(word => (/^[\w./-]+$/.test(word) ? word : `'${word}'`)).join(' ')

const home = mkdtempSync(join(tmpdir(), 'agent-swarm-session-'))
const environment = {
  ...pick(process.env, ['TERM', 'LANG']),
  HOME: home,
  AGENT_SWARM_HOME: join(home, '.agent-swarm'),
  AGENT_SWARM_PROVIDER: 'kvm',
  NO_COLOR: '1',
}
const run = (words: readonly string[]) =>
  onTerminal([process.execPath, join(root, 'bin/agent-swarm.js'), ...words], environment, [
    // Only `delete` asks.
    ...(words[0] === 'delete' ? [{ prompt: '[y/N]', text: 'y\n' }] : []),
  ])
try {
  const shown: string[] = []
  for (const words of session) {
    const { screen, code } = await run(words)
    shown.push(`$ agent-swarm ${typed(words)}\n${settled(screen)}`)
    process.stderr.write(`${shown.at(-1)}\n`)
    if (code !== 0) throw new Error(`it ended with ${code}; docs/cli-session.md is unchanged`)
  }
  const text = readFileSync(page, 'utf8')
  if (!MARKS.test(text)) throw new Error('docs/cli-session.md has no <!-- session --> … <!-- /session -->')
  writeFileSync(
    page,
    text.replace(MARKS, (_, open, close) => `${open}\n\`\`\`console\n${shown.join('\n')}\n\`\`\`\n\n${close}`),
  )
} finally {
  await run(['delete', TICKET, '--force'])
  rmSync(home, { recursive: true, force: true })
}
