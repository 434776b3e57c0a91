/** The commands of a machine's life, recorded into docs/commands-hyperv.md, and how many processes a list takes. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { openCli } from '../../support/cli.ts'
import { fillHypervHome, hypervOptions, IMAGE, openHypervHome } from '../../support/hyperv/bench.ts'
import { noPwsh, openHypervStandIn } from '../../support/hyperv/stand-in.ts'

const PAGE = resolve(import.meta.dirname, '../../../docs/commands-hyperv.md')
const VM = 'as-ab-1-0000000a'
const { publicKey, hostKey } = hypervOptions(VM)
const FORK = { vmId: 'as-ab-1-1-0000000b', ticket: 'AB-1~1', publicKey, hostKey }
const HEAD = `<!-- Generated: AGENT_SWARM_TEST_RECORD=1 npx vitest run test/providers/hyperv/commands.process.test.ts -->
# The commands of a machine's life on Hyper-V

What each step runs, as the tests recorded it with PowerShell 7 and stubs of Hyper-V's cmdlets: the cmdlets in their order, with their
parameters. \`HOME\` is AGENT_SWARM_HOME. Waiting (\`Get-VM -Id\`) is left out, and what is repeated stands once. The rules of isolation stand as one line; [hyperv.md](hyperv.md#isolation) says which there are. Each process is
\`powershell.exe -NoLogo -NoProfile -NonInteractive -ExecutionPolicy Bypass -EncodedCommand SCRIPT\`; the scripts are in
\`providers/hyperv/scripts/\`, and \`-v\` and transcripts say which one ran.
`

describe.skipIf(noPwsh !== null)(`commands on Hyper-V${noPwsh === null ? '' : ` (left out: ${noPwsh})`}`, () => {
  test('a life, as docs/commands-hyperv.md has it', { timeout: 900_000 }, async () => {
    const { provider, standIn, home, close } = await openHypervHome()
    const steps: string[] = []
    const step = async (name: string, work: () => Promise<unknown>) => {
      const [began, processes] = [standIn.cmdlets().length, standIn.processes()]
      await work()
      const lines = standIn
        .cmdlets()
        .slice(began)
        .map(line =>
          line
            .trim()
            .replaceAll(home, 'HOME')
            .replaceAll(/(?<![0-9a-f])[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b/gi, 'GUID'),
        )
        .filter(line => !line.startsWith('Get-VM -Id'))
        .map(line => `${line.replace(/^(Add-VMNetworkAdapterExtendedAcl) .*/, '$1 … (each rule)')}\n`)
        .join('')
        .replaceAll(/((?:^.*\n){1,3}?)\1+/gm, '$1')
      const taken = standIn.processes() - processes
      steps.push(`## ${name}\n\n${taken === 1 ? 'One process' : `${taken} processes`}.\n\n\`\`\`\n${lines}\`\`\`\n`)
      return taken
    }
    try {
      await step('create, when the network must be made', () => provider.createVm('AB-1', IMAGE, hypervOptions(VM)))
      await step('start', () => provider.startVm(VM))
      await step('address for SSH', () => provider.sshInfo(VM))
      await step('checkpoint', () => provider.checkpoint(VM, 'one'))
      await step('fork (of a running machine)', () => provider.fork?.(VM, null, [FORK]) ?? Promise.resolve())
      await provider.deleteVm(FORK.vmId)
      await step('restore', () => provider.restore(VM, 'one'))
      await step('save (an idle machine)', () => provider.save?.(VM) ?? Promise.resolve())
      await provider.startVm(VM)
      await step('stop', () => provider.stopVm(VM))
      expect(await step('list', () => provider.listVms())).toBe(1)
      await step('delete', () => provider.deleteVm(VM))
      expect(await standIn.violations()).toBe('')
    } finally {
      close()
    }
    const page = `${HEAD}\n${steps.join('\n')}`
    if (process.env.AGENT_SWARM_TEST_RECORD === '1') writeFileSync(PAGE, page)
    expect(page).toBe(readFileSync(PAGE, 'utf8'))
  })
  test('`list` and `status` take one process, with 10 and with 100 machines', { timeout: 600_000 }, async () => {
    for (const count of [10, 100]) {
      const [cli, standIn] = [openCli(), openHypervStandIn()]
      try {
        await fillHypervHome(standIn, join(cli.home, 'state'), count)
        for (const words of [['list'], ['status'], ['list', '--json', '--sort', 'disk'], ['status', 'AB-1']]) {
          const before = standIn.processes()
          const ran = await cli.swarm(words, { AGENT_SWARM_PROVIDER: 'hyperv', ...standIn.environment })
          expect([...words, count, ran.code, standIn.processes() - before]).toEqual([...words, count, 0, 1])
          if (words.length === 4) expect(JSON.parse(ran.stdout)).toHaveLength(count)
        }
      } finally {
        cli.close()
        standIn.close()
      }
    }
  })

  test('looks at the same moment are one process, and one that is asked for later is another', async () => {
    const { provider, standIn, close } = await openHypervHome()
    try {
      const before = standIn.processes()
      await Promise.all([provider.listVms(), provider.usage?.(), provider.leftovers?.(), provider.capacity?.()])
      expect(standIn.processes() - before).toBe(1)
      const first = provider.listVms()
      await setImmediate()
      await Promise.all([first, provider.listVms()])
      expect(standIn.processes() - before).toBe(3)
    } finally {
      close()
    }
  })
})
