/** Prepares the demo for real machines: packages, a libvirt that answers, a base image. */
import { spawn, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { debianPackages } from '../providers/kvm/systems.ts'
import { pick } from '../src/exec.ts'

const root = resolve(import.meta.dirname, '..')
/** The state of libvirt's own namespaces, with the base image. Only root makes folders there: root runs what lies in it. */
const NAMESPACE_STATE = '/var/lib/agent-swarm-demo'

/** What apt, mmdebstrap and a terminal need; no credential. */
const PASSED_ON = ['TERM', 'LANG', 'TZ', 'http_proxy', 'https_proxy', 'no_proxy', 'NODE_COMPILE_CACHE']

const run = (file: string, words: string[], environment: Record<string, string> = {}): Promise<number> =>
  new Promise(resolve => {
    const child = spawn(file, words, { stdio: 'inherit', env: { ...pick(process.env, PASSED_ON), ...environment } })
    // Passed on, because it must clean up its machines before we end.
    const pass = (signal: NodeJS.Signals) => child.kill(signal)
    const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
    for (const signal of signals) process.on(signal, pass)
    const ended = (code: number) => {
      for (const signal of signals) process.off(signal, pass)
      resolve(code)
    }
    child.on('error', () => ended(127))
    child.on('close', code => ended(code ?? 1))
  })
const say = (text: string) => process.stdout.write(`${text}\n`)
const libvirtAnswers = () =>
  spawnSync('virsh', ['-q', '--connect', 'qemu:///system', 'version'], { stdio: 'ignore' }).status === 0
const isRoot = process.getuid?.() === 0

// biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg's format, not a template
const FORMAT = '${db:Status-Status}'
const isInstalled = (name: string) =>
  spawnSync('dpkg-query', ['-W', '-f', FORMAT, name]).stdout?.toString() === 'installed'

/** Runs a program as root, by sudo when this user is not root. */
const runAsRoot = (words: string[]) => {
  const [file = '', ...rest] = isRoot ? words : ['sudo', ...words]
  return run(file, rest)
}

/** Whether all packages are installed now. */
const installPackages = async (install: boolean): Promise<boolean> => {
  if (!existsSync('/usr/bin/apt-get')) return true
  const missing = [...debianPackages.run, ...debianPackages.build].filter(name => !isInstalled(name))
  if (missing.length === 0) return true
  if (!install) {
    say(`Real machines need these packages: ${missing.join(' ')}`)
    say('Install them with: npm run demo -- --provider kvm --install')
    return false
  }
  say(`Installing ${missing.join(' ')}`)
  const apt = (...words: string[]) => runAsRoot(['env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get', '-qq', ...words])
  return (await apt('update')) === 0 && (await apt('install', '-y', '--no-install-recommends', ...missing)) === 0
}

/** Builds the base image if it is missing: two to four minutes, once. Returns an exit code. */
const buildBaseImage = async (): Promise<number> => {
  const manifest = ['-q', 'vol-info', '--pool', 'agent-swarm', 'agent-swarm-base.manifest.json']
  if (spawnSync('virsh', manifest, { stdio: 'ignore' }).status === 0) return 0
  say("Building a base image of this system's packages. This takes a few minutes, once.")
  const entry = resolve(root, 'bin/agent-swarm.js')
  return runAsRoot([
    process.execPath,
    entry,
    'init-base',
    '--from',
    'debian-packages',
    '--profile',
    'minimal',
    '--provider',
    'kvm',
  ])
}

/** Null: continue. A number: the exit code of the demo, which ran in namespaces, or of a failed preparation. */
export const prepareKvm = async ({
  install,
  inNamespace,
}: {
  install: boolean
  inNamespace: boolean
}): Promise<number | null> => {
  if (!inNamespace) {
    if (!(await installPackages(install))) return 1
    if (!libvirtAnswers() && existsSync('/run/systemd/system')) await runAsRoot(['systemctl', 'start', 'libvirtd'])
    if (!libvirtAnswers() && !isRoot) {
      say(
        'libvirt does not answer. Start libvirtd and join the group libvirt, or run the demo as root, which then starts a libvirt of its own in namespaces.',
      )
      return 1
    }
    if (!libvirtAnswers()) {
      say(
        `libvirt does not run here, so the demo starts its own, in namespaces that end with it (state: ${NAMESPACE_STATE}).`,
      )
      const demo = [process.execPath, resolve(root, 'demo/main.ts'), '--provider', 'kvm', '--in-namespace']
      return run(resolve(root, 'test/kvm/namespace.sh'), [NAMESPACE_STATE, ...demo])
    }
  }
  const code = await buildBaseImage()
  return code === 0 ? null : code
}

/** Everything that libvirt has, as text to compare. */
export const everything = async (): Promise<string> => {
  const virsh = (...words: string[]) => spawnSync('virsh', ['-q', ...words]).stdout?.toString() ?? ''
  return [virsh('list', '--all', '--name'), virsh('vol-list', 'agent-swarm')]
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
