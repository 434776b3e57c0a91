/** AGENT_SWARM_HOME is for its owner alone. What needs a second user is skipped without root. */
import {
  chmodSync,
  chownSync,
  existsSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { secureHome } from '../../src/config/home.ts'
import { openCli } from '../support/cli.ts'

/** Debian's `nobody`. */
const OTHER = 65_534
const isRoot = process.geteuid?.() === 0
const modeOf = (path: string) => statSync(path).mode & 0o777

let cli: ReturnType<typeof openCli>
let home: string
beforeEach(() => {
  cli = openCli()
  home = join(cli.home, 'state')
})
afterEach(() => cli.close())

test('the first command makes it private, before anything is written into it', async () => {
  const before = process.umask(0)
  try {
    // Without a shared cache the program makes its own, in the home.
    const ran = await cli.processes.swarm(['list'], { environment: { NODE_COMPILE_CACHE: undefined } })
    expect(ran).toMatchObject({ code: 0, stderr: expect.not.stringContaining('AGENT_SWARM_HOME') })
  } finally {
    process.umask(before)
  }
  expect(readdirSync(home)).toContain('cache')
  expect(modeOf(home)).toBe(0o700)
})

test.for([0o755, 0o750, 0o777])('one that is open (%o) is narrowed, and that is said once', async mode => {
  mkdirSync(join(home, 'cache'), { recursive: true })
  chmodSync(home, mode)
  const first = await cli.swarm(['list', '--json'])
  expect(first).toMatchObject({ code: 0, stdout: '[]\n' })
  expect(first.stderr).toBe(
    `AGENT_SWARM_HOME ${home} was open to other users (mode 0${mode.toString(8)}). It is now for you alone (0700).\n`,
  )
  expect(modeOf(home)).toBe(0o700)
  // Others could have put code there that we would run.
  expect(existsSync(join(home, 'cache'))).toBe(mode !== 0o777)
  expect((await cli.swarm(['list', '--json'])).stderr).toBe('')
})

test.skipIf(!isRoot)("another user's is refused for root too, and nothing is written there", async () => {
  mkdirSync(home)
  chownSync(home, OTHER, OTHER)
  for (const words of [['list'], ['create', 'DROP-1'], ['up'], ['init'], ['status', 'DROP-1'], ['bot', 'inbox']]) {
    const ran = await cli.processes.swarm(words, { environment: { NODE_COMPILE_CACHE: undefined } })
    expect(ran, words.join(' ')).toMatchObject({ code: 1, stdout: '' })
    expect(ran.stderr).toContain(`using AGENT_SWARM_HOME ${home}: it belongs to another user (65534)`)
    expect(ran.stderr).toContain("sudo -u '#65534' agent-swarm")
    expect(ran.stderr).toMatch(/AGENT_SWARM_HOME=\/\S+/)
  }
  expect(readdirSync(home)).toEqual([])
})

test.skipIf(!isRoot)("another user's link to a folder of ours is refused, and the folder stays as it is", async () => {
  const folder = join(cli.home, 'documents')
  mkdirSync(folder, { mode: 0o755 })
  symlinkSync(folder, home)
  lchownSync(home, OTHER, OTHER)
  expect(await cli.swarm(['list'])).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(
      /it is a link that another user \(65534\) made\nUse the folder itself: AGENT_SWARM_HOME=\//,
    ),
  })
  expect([modeOf(folder), readdirSync(folder)]).toEqual([0o755, []])
  // Our own is an ordinary way to use another disk.
  lchownSync(home, 0, 0)
  expect(await cli.swarm(['list', '--json'])).toMatchObject({ code: 0, stdout: '[]\n' })
})

test.skipIf(!isRoot)('code that another user compiled is not run', async () => {
  mkdirSync(join(home, 'cache'), { recursive: true })
  for (const path of [home, join(home, 'cache')]) chownSync(path, OTHER, OTHER)
  await cli.processes.swarm(['list'], { environment: { NODE_COMPILE_CACHE: undefined } })
  expect(readdirSync(join(home, 'cache'))).toEqual([])
})

test.skipIf(!isRoot)('one that another user wrote into is refused until that is removed', async () => {
  mkdirSync(home)
  chmodSync(home, 0o777)
  writeFileSync(join(home, 'config.yaml'), 'port: 1\n')
  chownSync(join(home, 'config.yaml'), OTHER, OTHER)
  expect(await cli.swarm(['list'])).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(
      /other users could write there \(mode 0777\), and "config.yaml" in it is not yours\nRemove what is not yours, then: chmod 700 '/,
    ),
  })
  expect(lstatSync(join(home, 'config.yaml')).uid).toBe(OTHER)
})

test.skipIf(!isRoot)("another user gets no further than the door of root's home", () => {
  const folder = mkdtempSync(join(tmpdir(), 'agent-swarm-door-'))
  mkdirSync(join(folder, 'home'), { mode: 0o700 })
  try {
    process.seteuid?.(OTHER)
    expect(() => secureHome(join(folder, 'home'))).toThrow(/using AGENT_SWARM_HOME: EACCES/)
    process.seteuid?.(0)
    chmodSync(folder, 0o755)
    process.seteuid?.(OTHER)
    expect(() => secureHome(join(folder, 'home'))).toThrow('it belongs to another user (0)')
  } finally {
    process.seteuid?.(0)
    rmSync(folder, { recursive: true })
  }
})
