#!/usr/bin/env node
// The only JavaScript file of the sources: any Node can read it, so that an older one can say what is missing.
const [major] = process.versions.node.split('.').map(Number)
if (major < 24) {
  process.stderr.write(
    `agent-swarm needs Node 24 or newer, and this is Node ${process.versions.node}. Install it from https://nodejs.org; in a checkout, "npm ci" (without --ignore-scripts) brings it for npm's scripts.\n`,
  )
  process.exit(1)
}
// An import reads every member of a built-in module, and so loads everything behind them.
const [fs, os, path, module] = ['fs', 'os', 'path', 'module'].map(name => process.getBuiltinModule(`node:${name}`))
if (process.argv[2] === '--version') {
  const { version } = JSON.parse(fs.readFileSync(new URL('../package.json', import.meta.url), 'utf8'))
  process.stdout.write(`${version}\n`)
} else {
  // In our private home: others could put code into a shared cache. A completion makes no folder, and a relative path is refused.
  const home = process.env.AGENT_SWARM_HOME || path.join(os.homedir(), '.agent-swarm')
  try {
    if (path.isAbsolute(home)) {
      if (process.argv[2] !== 'completion') fs.mkdirSync(home, { recursive: true, mode: 0o700 })
      const { uid, mode } = fs.statSync(home)
      if (process.geteuid === undefined || (uid === process.geteuid() && (mode & 0o022) === 0))
        module.enableCompileCache(path.join(home, 'cache', 'compile'))
    }
  } catch {
    // Without the cache it starts slower; the command says what is wrong with the home.
  }
  // A checkout runs the TypeScript itself. Node strips no types under node_modules, so a package holds compiled JavaScript.
  let main
  if (fs.existsSync(new URL('../src/cli/main.ts', import.meta.url))) {
    main = (await import('../src/cli/main.ts')).main
  } else {
    process.setSourceMapsEnabled(true)
    main = (await import(new URL('../dist/src/cli/main.js', import.meta.url).href)).main
  }
  process.exitCode = await main(process.argv.slice(2))
}
