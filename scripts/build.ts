/** npm pack runs this first: compiles the sources to JavaScript in `dist/`, and copies what they read at run time. */
import { execFileSync } from 'node:child_process'
import { cpSync, globSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, resolve } from 'node:path'

const root = resolve(import.meta.dirname, '..')
const dist = join(root, 'dist')
rmSync(dist, { recursive: true, force: true })
const tsc = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin/tsc')
execFileSync(process.execPath, [tsc, '-p', 'tsconfig.build.json', '--singleThreaded'], { cwd: root, stdio: 'inherit' })
// The schemas of what commands print are only types at run time.
for (const file of ['json.js', 'json.js.map']) rmSync(join(dist, 'src/cli', file))
// The scripts that set up a base image.
cpSync(join(root, 'base-image'), join(dist, 'base-image'), {
  recursive: true,
  filter: path => !path.endsWith('.ts'),
})
// What the runner puts into each machine.
execFileSync(process.execPath, [join(import.meta.dirname, 'build-guest.ts')], { cwd: root, stdio: 'inherit' })
for (const file of ['swarm', 'git-remote-agent-swarm', 'link.sh', 'mcp.mjs'])
  cpSync(join(root, 'guest', file), join(dist, 'guest', file))
// The scripts that run in a machine, and those of a hypervisor's own shell.
for (const script of globSync(['src/**/*.sh', 'providers/**/*.ps1'], { cwd: root }))
  cpSync(join(root, script), join(dist, script))
