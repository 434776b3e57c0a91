/** (t) Outside commands of `list` and `status` with 10 and 100 environments on Tart, whose stand-in counts them. */
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { homeId } from '../src/config/home.ts'
import { openRegistry } from '../src/registry/registry.ts'
import { openMac } from '../test/support/tart/install.ts'
import type { Row } from './main.ts'
import { entry, finish, withHome } from './measure.ts'

const SIZES = [10, 100]
const by = { via: 'cli', who: null } as const

const fill = async (state: string, vms: string, image: string, count: number): Promise<void> => {
  const registry = openRegistry(join(state, 'registry.db'))
  const id = await homeId(state)
  for (let n = 1; n <= count; n += 1) {
    const ticket = `BENCH-${n}`
    const vmId = `as-bench-${n}-${n.toString(16).padStart(8, '0')}`
    const operation = registry.startOperation({
      ...{ actionId: null, correlation: null, ticket, kind: 'create', by, at: '2026-01-01T00:00:00.000Z' },
    })
    registry.begin({ ticket, provider: 'tart', vmId, baseImage: 'base', by, operation })
    registry.setStatus(ticket, 'stopped')
    registry.endOperation(operation, '2026-01-01T00:00:01.000Z', 'done', null)
    const folder = join(vms, `${vmId}.${ticket}.${id}`)
    mkdirSync(folder, { recursive: true })
    for (const file of ['config.json', 'nvram.bin']) cpSync(join(vms, image, file), join(folder, file))
    writeFileSync(join(folder, 'disk.img'), '')
  }
  registry.close()
}

export const tart = (): Promise<Row[]> =>
  withHome(async home => {
    const rows: Row[] = []
    const counts = new Map<string, number[]>()
    for (const size of SIZES) {
      const root = join(home, String(size))
      const mac = openMac(root)
      const log = join(root, 'commands.log')
      const real = join(mac.bin, 'tart-itself')
      cpSync(join(mac.bin, 'tart'), real)
      writeFileSync(join(mac.bin, 'tart'), `#!/bin/sh\necho "$*" >>'${log}'\nexec '${real}' "$@"\n`, { mode: 0o755 })
      mac.makeImage('image')
      const state = join(root, 'state')
      await fill(state, join(mac.tartHome, 'vms'), 'image', size)
      const { PATH } = mac.environment
      const environment = { PATH, HOME: root, AGENT_SWARM_TART_HOME: mac.tartHome, AGENT_SWARM_HOME: state }
      for (const words of [['list'], ['status'], ['status', 'BENCH-1']]) {
        rmSync(log, { force: true })
        const given = { ...environment, AGENT_SWARM_PROVIDER: 'tart' }
        const ran = await finish(process.execPath, [entry, ...words], given)
        if (ran.code !== 0) throw new Error(`${words.join(' ')}: ${ran.stderr}`)
        const commands = existsSync(log) ? readFileSync(log, 'utf8').trim().split('\n').length : 0
        const name = words.join(' ')
        counts.set(name, [...(counts.get(name) ?? []), commands])
      }
    }
    for (const [name, [few = 0, many = 0]] of counts)
      rows.push({
        row: 't',
        what: `commands of tart that \`${name}\` runs with ${SIZES.join(' and ')} environments`,
        measured: `${few} and ${many}`,
        target: 'the same',
        ok: few === many,
      })
    return rows
  })
