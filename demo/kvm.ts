/** What the demo needs for real machines: packages, a libvirt that answers, a base image. */
import { spawn, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { debianPackages } from '../providers/kvm/systems.ts'

const root = resolve(import.meta.dirname, '..')
/** Where libvirt's state of the private place is kept, and with it the base image. */
const PLACE = '/var/tmp/agent-swarm-demo'

const run = (file: string, words: string[], environment: Record<string, string> = {}): Promise<number> =>
  new Promise(done => {
    const child = spawn(file, words, { stdio: 'inherit', env: { ...process.env, ...environment } })
    // Until it has cleaned up, we stay: an ending of ours would leave it alone with its machines.
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

// The field's name in dpkg's own format.
// biome-ignore lint/suspicious/noTemplateCurlyInString: not a template of ours
const FORMAT = '${db:Status-Status}'
const installed = (name: string) =>
  spawnSync('dpkg-query', ['-W', '-f', FORMAT, name]).stdout?.toString() === 'installed'

/** Null: go on here. A number: the demo ran in a private place, and this is its exit code. */
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
          'libvirt does not answer. Start libvirtd and join the group libvirt, or run the demo as root: it then brings its own libvirt in a private place.',
        )
        return 1
      }
      say(`No libvirt runs here, so the demo brings its own, in namespaces that end with it (its state: ${PLACE}).`)
      return run(resolve(root, 'test/kvm/namespace.sh'), [
        PLACE,
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

/** Makes the base image when there is none: two to four minutes, once. */
const baseImage = async (): Promise<number> => {
  if (
    spawnSync('virsh', ['-q', 'vol-info', '--pool', 'agent-swarm', 'agent-swarm-base.manifest.json'], {
      stdio: 'ignore',
    }).status === 0
  )
    return 0
  say("Making a base image of this system's packages: this takes a few minutes, once.")
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

/** All that libvirt has, as text to compare. */
export const everything = async (): Promise<string> => {
  const of = (...words: string[]) => spawnSync('virsh', ['-q', ...words]).stdout?.toString() ?? ''
  return [of('list', '--all', '--name'), of('vol-list', 'agent-swarm')]
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
