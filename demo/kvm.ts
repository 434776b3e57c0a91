/** What the demo needs for real machines: packages, libvirt, a base image. */
import { spawn, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { debianPackages } from '../providers/kvm/systems.ts'

const root = resolve(import.meta.dirname, '..')
/** State of the demo's own libvirt, with the base image. */
const STATE = '/var/tmp/agent-swarm-demo'

const run = (file: string, words: string[], environment: Record<string, string> = {}): Promise<number> =>
  new Promise(done => {
    const child = spawn(file, words, { stdio: 'inherit', env: { ...process.env, ...environment } })
    // We stay until it has cleaned up: it would be left alone with its machines.
    const pass = (signal: NodeJS.Signals) => child.kill(signal)
    const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
    for (const signal of signals) process.on(signal, pass)
    const ended = (code: number) => {
      for (const signal of signals) process.off(signal, pass)
      done(code)
    }
    child.on('error', () => ended(127))
    child.on('close', code => ended(code ?? 1))
  })
const say = (text: string) => process.stdout.write(`${text}\n`)
const answers = () =>
  spawnSync('virsh', ['-q', '--connect', 'qemu:///system', 'version'], { stdio: 'ignore' }).status === 0
const isRoot = process.getuid?.() === 0
const asRoot = (words: string[]) => (isRoot ? words : ['sudo', ...words])

// A field in dpkg's format.
// biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg's syntax
const FORMAT = '${db:Status-Status}'
const installed = (name: string) =>
  spawnSync('dpkg-query', ['-W', '-f', FORMAT, name]).stdout?.toString() === 'installed'

/** Null: continue in this process. Otherwise the exit code of a demo that ran in a namespace, or of a failure. */
export const prepareKvm = async ({
  install,
  inNamespace,
}: {
  install: boolean
  inNamespace: boolean
}): Promise<number | null> => {
  if (!inNamespace) {
    const missing = existsSync('/usr/bin/apt-get')
      ? [...debianPackages.run, ...debianPackages.build].filter(name => !installed(name))
      : []
    if (missing.length > 0) {
      if (!install) {
        say(
          `Real machines need these packages: ${missing.join(' ')}\nInstall them with: npm run demo -- --provider kvm --install`,
        )
        return 1
      }
      say(`Installing ${missing.join(' ')}`)
      const apt = (words: string[]) => {
        const [file = '', ...rest] = asRoot(['env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get', '-qq', ...words])
        return run(file, rest)
      }
      if ((await apt(['update'])) !== 0 || (await apt(['install', '-y', '--no-install-recommends', ...missing])) !== 0)
        return 1
    }
    if (!answers() && existsSync('/run/systemd/system')) {
      const [file = '', ...rest] = asRoot(['systemctl', 'start', 'libvirtd'])
      await run(file, rest)
    }
    if (!answers()) {
      if (!isRoot) {
        say(
          'libvirt does not answer. Start libvirtd and join the group libvirt, or run the demo as root: it then starts its own libvirt in a namespace.',
        )
        return 1
      }
      say(`No libvirt runs on this host. The demo starts its own in a namespace, with its state in ${STATE}.`)
      return run(resolve(root, 'test/kvm/namespace.sh'), [
        STATE,
        process.execPath,
        resolve(root, 'demo/main.ts'),
        '--provider',
        'kvm',
        '--in-namespace',
      ])
    }
  }
  const code = await baseImage()
  return code === 0 ? null : code
}

/** Builds the base image when there is none: two to four minutes, once. */
const baseImage = async (): Promise<number> => {
  if (
    spawnSync('virsh', ['-q', 'vol-info', '--pool', 'agent-swarm', 'agent-swarm-base.manifest.json'], {
      stdio: 'ignore',
    }).status === 0
  )
    return 0
  say("Building a base image from this system's packages. This takes a few minutes, once.")
  const [file = '', ...rest] = asRoot([
    process.execPath,
    resolve(root, 'bin/agent-swarm.js'),
    'init-base',
    '--from',
    'debian-packages',
    '--provider',
    'kvm',
  ])
  return run(file, rest)
}

/** Everything in libvirt, as text to compare. */
export const everything = async (): Promise<string> => {
  const output = (...words: string[]) => spawnSync('virsh', ['-q', ...words]).stdout?.toString() ?? ''
  return [output('list', '--all', '--name'), output('vol-list', 'agent-swarm')]
    .map(text =>
      text
        .trim()
        .split('\n')
        .map(line => line.trim())
        .sort()
        .join('\n'),
    )
    .join('\n--\n')
}
