/** How promises are tried one after the other, and what a transcript keeps. */
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { fail } from '../../src/errors.ts'
import type { Bench } from '../../src/selftest/bench.ts'
import { ownerOf } from '../../src/selftest/owner.ts'
import type { ProviderPromise } from '../../src/selftest/promises.ts'
import { parseTranscript, provenOn } from '../../src/selftest/proven.ts'
import { runPromises } from '../../src/selftest/run.ts'
import { type Transcript, writeTranscript as write } from '../../src/selftest/transcript.ts'

const kept = async () => {}
const broken = async () => {
  throw fail('unknown', 'it broke', 'Repair it.')
}
/** Of a provider without optional members. */
const runThem = async (promises: ProviderPromise[], { deadlineMs = 60_000, ending = new AbortController() } = {}) => {
  const bench = { provider: { name: 'acme' } } as unknown as Bench
  const limits = { signal: ending.signal, deadlineMs, abort: (reason: Error) => ending.abort(reason) }
  const results = await runPromises(promises, bench, { begin: () => {}, end: () => {} }, limits)
  return results.map(({ name, result, why }) => [name, result, why])
}

test('a broken promise keeps the others from nothing, and what the provider cannot do is left out', async () => {
  expect(
    await runThem([
      { name: 'a', run: broken },
      { name: 'b', needs: 'usage', run: broken },
      { name: 'c', run: kept },
    ]),
  ).toEqual([
    ['a', 'failed', 'it broke\nRepair it.'],
    ['b', 'left-out', 'acme has no usage'],
    ['c', 'ok', null],
  ])
})

test('without its basis the rest is left out', async () => {
  expect(
    await runThem([
      { name: 'a', isBasis: true, run: broken },
      { name: 'b', run: kept },
    ]),
  ).toMatchObject([
    ['a', 'failed', expect.any(String)],
    ['b', 'left-out', 'without this there is nothing to try: a'],
  ])
})

test('a promise that does not end is aborted at its deadline, and nothing is tried beside it', async () => {
  const ending = new AbortController()
  const untilAborted = () =>
    new Promise<never>((_, reject) => ending.signal.addEventListener('abort', () => reject(new Error('stopped'))))
  const promises = [
    { name: 'a', run: untilAborted },
    { name: 'b', run: kept },
  ]
  expect(await runThem(promises, { deadlineMs: 1, ending })).toEqual([
    ['a', 'failed', 'it did not end within 0 min: stopped'],
    ['b', 'left-out', 'the selftest was ended before'],
  ])
})

const transcript = (second: number, more: Partial<Transcript> = {}): Transcript => ({
  ...{ version: '0.1.0', at: new Date(Date.UTC(2026, 10, 23, 9, 45, second)), provider: 'acme', machines: '1' },
  ...{ isEmulated: false, host: [], tried: [], ...more },
})
const HOME_ID = '00112233445566ff'
const writeTranscript = (home: string, given: Transcript, random: string) =>
  write(ownerOf(home, HOME_ID), given, random)
const tempHome = () => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-proven-'))
  onTestFinished(() => rmSync(home, { recursive: true }))
  return home
}

test('the newest 20 transcripts are kept, for their owner alone, and no other file is removed', () => {
  const home = tempHome()
  mkdirSync(join(home, 'proven'), { mode: 0o755 })
  writeFileSync(join(home, 'proven', 'notes.txt'), '')
  for (let second = 0; second < 23; second += 1) writeTranscript(home, transcript(second), '00ff')
  const names = readdirSync(join(home, 'proven')).sort()
  expect(names).toHaveLength(21)
  expect([names[0], names.at(-2), names.at(-1)]).toEqual([
    '20261123-094503-acme-00ff.txt',
    '20261123-094522-acme-00ff.txt',
    'notes.txt',
  ])
  const mode = (...path: string[]) => statSync(join(home, 'proven', ...path)).mode & 0o777
  expect([mode(), mode(names[0] ?? '')]).toEqual([0o700, 0o600])
})

test('what tools and guests wrote moves no cursor in a transcript, and its lines have a bound', () => {
  const tried = [
    {
      ...({ name: 'a promise', result: 'failed', milliseconds: 1_234, why: `first\nsec\x1b[2Jond` } as const),
      commands: [`+ virsh ${'x'.repeat(10_000)}`, ...Array(600).fill('+ ssh')],
    },
  ]
  const path = writeTranscript(tempHome(), transcript(0, { host: ['libvirt\u202e 9'], tried }), '00ff')
  const lines = readFileSync(path, 'utf8').split('\n')
  expect(lines).toContain('  libvirt? 9')
  expect(lines).toContain('failed        1.2 s  a promise')
  expect(lines.slice(lines.indexOf('    first'), lines.indexOf('    first') + 2)).toEqual([
    '    first',
    '    sec?[2Jond',
  ])
  expect(lines).toContain('result    0 promises kept, 1 broken, 0 left out')
  expect(lines).toContain('  … 101 more commands')
  expect(Math.max(...lines.map(line => line.length))).toBeLessThan(600)
})

// ── What a transcript proves ──

const result = (name: string, result: 'ok' | 'failed' | 'left-out', commands: string[] = []) => ({
  ...{ name, result, milliseconds: 5, commands },
  why: result === 'ok' ? null : 'ok            0.1 s  a forged line',
})
const textOf = (home: string, second: number, more: Partial<Transcript> = {}) =>
  readFileSync(writeTranscript(home, transcript(second, { tried: [result('a', 'ok')], ...more }), '00ff'), 'utf8')

test('a transcript without a broken promise proves; one that is partial, edited or of something else does not', () => {
  const home = tempHome()
  const tried = [result('a', 'ok', ['ok            0.1 s  forged']), result('b', 'ok'), result('c', 'left-out')]
  const host = ['ok  12.5 of 252.0 GiB, libvirt 9.0.0 with QEMU 7.2.22 at qemu:///system', 'ok  x 1.2.3']
  const text = textOf(home, 0, { tried, host, isEmulated: true })
  expect(parseTranscript(text)).toEqual({
    ...{ provider: 'acme', at: new Date('2026-11-23T09:45:00Z') },
    on: expect.stringMatching(/, libvirt 9\.0\.0, QEMU 7\.2\.22, processors emulated by software$/),
  })
  const broken = textOf(home, 1, { tried: [result('a', 'ok'), result('b', 'failed')] })
  for (const not of [
    ...['', 'x', broken, broken.replace('1 broken', '0 broken'), textOf(home, 2, { tried: [] })],
    ...[text.slice(0, text.indexOf('  b')), text.replace('2 promises', '3 promises'), `\n${text}`],
    ...[text.replace(/^date.*/m, 'date      soon'), text.replace(/^date.*\n/m, ''), text.replaceAll('ok', 'OK')],
  ])
    expect(parseTranscript(not), not).toBeNull()
  expect(parseTranscript(text.replace(/^on .*/m, 'on        a\u001b[2J'))).toMatchObject({ on: null })
})

test('the newest shipped transcript counts, else the newest of this home, else none', () => {
  const [home, shippedHome] = [tempHome(), tempHome()]
  const shipped = join(shippedHome, 'proven')
  const now = new Date('2026-11-24T00:00:00Z')
  const proven = (provider = 'acme') => provenOn(provider, { shipped, home, now })
  expect(proven()).toBeNull()
  textOf(home, 3)
  textOf(home, 4, { at: new Date('2026-11-22T00:00:00Z') })
  expect(proven()).toBe('here, 2026-11-23')
  expect(proven('tart')).toBeNull()
  // What somebody put there: a folder, a link, a broken run, a run of another provider, and one of the future.
  mkdirSync(join(home, 'proven', 'acme.txt'))
  symlinkSync('/dev/zero', join(home, 'proven', 'acme-zero.txt'))
  textOf(home, 5, { tried: [result('a', 'failed')] })
  writeFileSync(join(home, 'proven', 'tart.txt'), textOf(home, 6))
  textOf(home, 7, { at: new Date('2030-01-01T00:00:00Z') })
  expect([proven(), proven('tart')]).toEqual(['here, 2026-11-23', null])
  mkdirSync(shipped)
  writeFileSync(join(shipped, 'acme-other.txt'), textOf(home, 8, { at: new Date('2026-11-20T00:00:00Z') }))
  writeFileSync(
    join(shipped, 'acme.txt'),
    textOf(home, 9, { host: ['ok  acme 2.35.0'], at: new Date('2026-11-21T00:00:00Z') }),
  )
  expect(proven()).toMatch(/, acme 2\.35\.0, 2026-11-21$/)
})

test('a transcript does not tell whose host it was', () => {
  const home = tempHome()
  const owner = { home, homeId: HOME_ID, person: '/Users/alice', user: 'alice', host: 'alice-mbp.local' }
  const commands = [`+ ssh -i ${home}/ssh/key as-x '${HOME_ID}'`, '+ ls /Users/alice/.ssh alice@alice-mbp malice-x']
  const host = ['ok       alice-mbp.local has debian-packages of alice']
  const tried = [{ ...result('a', 'failed', commands), why: `reading ${home}/x` }]
  const text = readFileSync(write(owner, transcript(0, { host, tried }), '00ff'), 'utf8')
  expect(text).toContain("  + ssh -i AGENT_SWARM_HOME/ssh/key as-x 'HOME-ID'\n  + ls ~/.ssh USER@HOST malice-x\n")
  expect(text).toContain('HOST has debian-packages of USER\n')
  expect(text).toContain('    reading AGENT_SWARM_HOME/x\n')
  const windows = { ...owner, person: 'C:\\Users\\alice', user: 'alice' }
  const paths = ['+ icacls C:\\Users\\alice\\x {"a":"C:\\\\Users\\\\alice\\\\x"} C:/Users/alice/x']
  const there = readFileSync(write(windows, transcript(1, { tried: [result('a', 'ok', paths)] }), '00ff'), 'utf8')
  expect(there).not.toMatch(/alice/)
})

test('a transcript names no account, no id of its parts and no public address', () => {
  const owner = { home: tempHome(), homeId: HOME_ID, person: '/Users/alice', user: 'alice', host: 'alice-mbp' }
  const account = '123456789012'
  const host = [
    `ok       aws-cli 2.9.19; AWS knows this host as arn:aws:iam::${account}:user/alice.smith of the account ${account}`,
    'warning  not isolated: sg-0123456789abcdef0 lets in tcp 22 from 203.0.113.5/32, 2001:db8::7/128 and 10.1.0.0/16.',
  ]
  const commands = [
    `+ aws ec2 run-instances {"ImageId":"ami-0123456789abcdef0","SubnetId":"subnet-0aaaaaaaa","OwnerId":"${account}"}`,
    '+ aws ec2 terminate-instances i-0123456789abcdef0 vol-01234567 snap-01234567 sir-3ztgvk6q AKIAIOSFODNN7EXAMPLE',
    '+ ssh agent@198.51.100.7 -p 22 as-i-01234567 192.168.64.7 100.64.0.1 169.254.169.254 255.255.240.0 10.0.22631.1',
  ]
  const tried = [
    { ...result('a', 'failed', commands), why: 'x (Unauthorized) Encoded authorization failure message: AbC-9' },
  ]
  const text = readFileSync(write(owner, transcript(0, { host, tried }), '00ff'), 'utf8')
  expect(text).toContain(', aws-cli 2.9.19\n')
  expect(text).toContain('AWS knows this host as ARN of the account ACCOUNT\n')
  expect(text).toContain('sg-ID lets in tcp 22 from ADDRESS/32, ADDRESS/128 and 10.1.0.0/16.\n')
  expect(text).toContain('{"ImageId":"ami-ID","SubnetId":"subnet-ID","OwnerId":"ACCOUNT"}')
  expect(text).toContain('i-ID vol-ID snap-ID sir-ID KEY-ID\n')
  expect(text).toContain(
    'agent@ADDRESS -p 22 as-i-01234567 192.168.64.7 100.64.0.1 169.254.169.254 255.255.240.0 10.0.22631.1\n',
  )
  expect(text).toContain('failure message: MESSAGE\n')
})
