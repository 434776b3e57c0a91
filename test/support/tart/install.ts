/** Puts the stand-in for `tart`, and what else a Mac has, into a folder for PATH. */
import { execFileSync } from 'node:child_process'
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'

const script = (...lines: string[]): string => `#!/bin/sh\n${lines.join('\n')}\n`
const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`

const VM_STAT = `Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                              200000.
Pages active:                            300000.
Pages inactive:                          290000.
Pages speculative:                         1000.
Pages throttled:                              0.
Pages wired down:                        100000.
Pages purgeable:                           5000.
`

/** ssh sees nothing of Tart's environment, so the folder stands in its script. */
const installTart = (bin: string, tartHome: string): void => {
  mkdirSync(bin, { recursive: true })
  const write = (name: string, text: string) => writeFileSync(join(bin, name), text, { mode: 0o755 })
  const cache = join(import.meta.dirname, '../../../node_modules/.cache/agent-swarm')
  const node = (name: string, before = '') => {
    const program = join(import.meta.dirname, `${name}.ts`)
    const line = `exec ${quoted(process.execPath)} --no-warnings ${quoted(program)} "$@"`
    write(name, script(`${before}NODE_COMPILE_CACHE=${quoted(cache)} ${line}`))
  }
  node('tart')
  node('ssh', `TART_HOME=${quoted(tartHome)} `)
  write('sysctl', script('[ "$*" = "-n hw.ncpu hw.memsize" ] || exit 1', 'echo 10', 'echo 34359738368'))
  write('vm_stat', script(`cat <<'END'\n${VM_STAT}END`))
}

/** Softnet with its rights, for which the test must be root. */
export const installSoftnet = (bin: string, mode: number): void =>
  writeFileSync(join(bin, 'softnet'), script('exit 0'), { mode })

/** A raw disk that a system boots from, as far as its first sector says. `text` stands in it. */
export const writeRawImage = (path: string, text = ''): void => {
  const head = Buffer.alloc(512)
  head.write(text, 16)
  head.writeUInt16BE(0x55aa, 510)
  writeFileSync(path, head)
  truncateSync(path, 100 * 1024 ** 2)
}

/** A Mac in a folder: `tart` with its state in `tartHome`, called directly. */
export const openMac = (root: string) => {
  const bin = join(root, 'bin')
  const tartHome = join(root, 'tart-home')
  mkdirSync(tartHome, { recursive: true })
  installTart(bin, tartHome)
  const environment = { ...process.env, PATH: `${bin}:${process.env.PATH}`, TART_HOME: tartHome }
  const tart = (...argv: string[]): string =>
    execFileSync(join(bin, 'tart'), argv, { env: environment, encoding: 'utf8' })
  const vms = (): string[] => (existsSync(join(tartHome, 'vms')) ? readdirSync(join(tartHome, 'vms')).sort() : [])
  return {
    ...{ bin, tartHome, environment, tart, vms },
    /** Makes a VM with a system on its disk. */
    makeImage: (name: string, text = ''): void => {
      const raw = join(root, 'image.raw')
      writeRawImage(raw, text)
      tart('create', '--linux', name)
      tart('set', name, '--disk', raw)
    },
    knobs: (knobs: object): void => writeFileSync(join(tartHome, 'knobs.json'), JSON.stringify(knobs)),
    /** The traps that were sprung so far. */
    sprung: (): string[] => {
      const file = join(tartHome, 'sprung.log')
      return existsSync(file) ? [...new Set(readFileSync(file, 'utf8').trim().split('\n'))] : []
    },
    /** The folder of a guest's files; null while the VM has no system. */
    guestOf: (name: string): string | null => {
      const file = openSync(join(tartHome, 'vms', name, 'disk.img'), 'r')
      const buffer = Buffer.alloc(64)
      readSync(file, buffer, 0, buffer.length, 0)
      closeSync(file)
      const head = buffer.toString('latin1')
      const id = /^guest ([0-9a-f-]{36})\n/.exec(head)?.[1]
      return id === undefined ? null : join(tartHome, 'guests', id)
    },
    /** Ends every VM, as a reboot does. */
    reboot: (): void => {
      const locks = join(tartHome, 'locks')
      for (const file of existsSync(locks) ? readdirSync(locks) : []) {
        try {
          process.kill(Number(readFileSync(join(locks, file), 'utf8')), 'SIGKILL')
        } catch {
          // It has ended.
        }
      }
    },
    close: (): void => rmSync(root, { recursive: true, force: true }),
  }
}
export type Mac = ReturnType<typeof openMac>
