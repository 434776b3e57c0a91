/** Stand-ins of what a base image is made from: a web server of files, and signed apt repositories. They need Debian's tools. */
import { execFileSync, spawn } from 'node:child_process'
import { createReadStream, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { dirname, join, normalize } from 'node:path'

/** Serves the files of a folder on loopback. */
export const serveFolder = async (folder: string): Promise<{ url: string; close: () => Promise<void> }> => {
  const server = createServer((request, response) => {
    const path = join(folder, normalize(decodeURIComponent(new URL(request.url ?? '/', 'http://localhost').pathname)))
    const info = statSync(path, { throwIfNoEntry: false })
    if (info?.isFile() !== true) return response.writeHead(404).end()
    response.writeHead(200, { 'content-length': info.size })
    return createReadStream(path).pipe(response)
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () =>
      new Promise(resolve => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

export type Deb = { name: string; version: string; architecture: string; depends?: string }

/** Makes the package of the files in `root` (without its DEBIAN folder), and removes that folder. */
export const buildDeb = (repository: string, { name, version, architecture, depends }: Deb, root: string): void => {
  const fields = [
    ...[`Package: ${name}`, `Version: ${version}`, `Architecture: ${architecture}`],
    ...['Maintainer: nobody <nobody@localhost>', `Description: ${name}`],
    ...(depends === undefined ? [] : [`Depends: ${depends}`]),
  ]
  writeIn(root, 'DEBIAN/control', `${fields.join('\n')}\n`)
  mkdirSync(join(repository, 'pool'), { recursive: true })
  const deb = join(repository, 'pool', `${name}_${version}_${architecture}.deb`)
  execFileSync('dpkg-deb', ['--build', '--root-owner-group', '-Znone', root, deb], { stdio: 'pipe' })
  rmSync(root, { recursive: true })
}

export const writeIn = (root: string, path: string, text: string, mode = 0o644): void => {
  mkdirSync(dirname(join(root, path)), { recursive: true })
  writeFileSync(join(root, path), text, { mode })
}

const openGpg =
  (home: string) =>
  (...args: string[]): Buffer =>
    execFileSync('gpg', ['--batch', '--quiet', '--homedir', home, ...args], { stdio: 'pipe' })

/** Makes a key, and returns its fingerprint. Its public half is at `doc/apt-key.gpg`, as Google's is. */
export const makeKey = (repository: string, home: string): string => {
  mkdirSync(home, { mode: 0o700, recursive: true })
  mkdirSync(join(repository, 'doc'), { recursive: true })
  const gpg = openGpg(home)
  gpg('--passphrase', '', '--quick-generate-key', 'stand-in <nobody@localhost>', 'rsa2048', 'sign', 'never')
  gpg('--armor', '--yes', '--output', join(repository, 'doc/apt-key.gpg'), '--export')
  const [, fingerprint = ''] =
    gpg('--with-colons', '--list-keys')
      .toString()
      .match(/^fpr:+([0-9A-F]{40}):/m) ?? []
  return fingerprint
}

/**
 * Makes another key that has the one in `home` as its subkey. Returns the files: of that key alone, and of both. Only the fingerprint
 * of a subkey that is as old as the key is the same.
 */
export const makeForeignKey = (home: string): { alone: Buffer; both: Buffer } => {
  const gpg = openGpg(home)
  const listed = gpg('--with-colons', '--with-keygrip', '--list-keys').toString()
  const [, madeAt = ''] = listed.match(/^pub:(?:[^:]*:){4}(\d+):/m) ?? []
  const [, grip = ''] = listed.match(/^grp:+([0-9A-F]{40}):/m) ?? []
  const then = ['--faked-system-time', `${madeAt}!`, '--pinentry-mode', 'loopback', '--passphrase', '']
  gpg(...then, '--quick-generate-key', 'foreign <foreign@localhost>', 'rsa2048', 'sign', 'never')
  execFileSync(
    'gpg',
    [
      ...['--quiet', '--no-tty', '--homedir', home, ...then],
      ...['--expert', '--command-fd', '0', '--edit-key', 'foreign@localhost'],
    ],
    { stdio: 'pipe', input: `addkey\n13\n${grip}\nq\n0\nsave\n` },
  )
  return { alone: gpg('--export', 'foreign@localhost'), both: gpg('--export') }
}

/** Writes the lists of the packages in `pool/`, signed with the key in `home`. */
export const signLists = (repository: string, suite: string, home: string): void => {
  const debs = readdirSync(join(repository, 'pool')).map(file => join('pool', file))
  const stanzas = debs.map(file => {
    const path = join(repository, file)
    const control = execFileSync('dpkg-deb', ['--field', path]).toString()
    return `${control}Filename: ${file}\nSize: ${statSync(path).size}\nSHA256: ${sha256(path)}\n`
  })
  const folder = join('dists', suite)
  const lists = ['amd64', 'arm64'].map(architecture => `main/binary-${architecture}/Packages`)
  for (const list of lists) {
    const architecture = list.match(/binary-(\w+)/)?.[1]
    const own = stanzas.filter(stanza => new RegExp(`^Architecture: (all|${architecture})$`, 'm').test(stanza))
    writeIn(repository, join(folder, list), own.join('\n'))
  }
  const sums = lists.map(list => {
    const path = join(repository, folder, list)
    return ` ${sha256(path)} ${statSync(path).size} ${list}`
  })
  const release = [
    ...[`Suite: ${suite}`, `Codename: ${suite}`, 'Architectures: amd64 arm64', 'Components: main'],
    ...[`Date: ${new Date().toUTCString()}`, 'SHA256:', ...sums, ''],
  ]
  const path = join(repository, folder, 'InRelease')
  writeFileSync(path.replace('InRelease', 'Release'), release.join('\n'))
  execFileSync(
    'gpg',
    ['--batch', '--yes', '--homedir', home, '--output', path, '--clearsign', path.replace('InRelease', 'Release')],
    { stdio: 'pipe' },
  )
}

export const endKeyAgent = (home: string): void => {
  execFileSync('gpgconf', ['--homedir', home, '--kill', 'all'], { stdio: 'ignore' })
}

export const sha256 = (path: string): string =>
  // In the memory of another process: a package has hundreds of megabytes.
  execFileSync('sha256sum', [path]).toString().slice(0, 64)

export type Ran = { code: number | null; stdout: string; stderr: string }

/** Runs a program with a text on its standard input. */
export const runWith = (
  command: string,
  args: string[],
  input: string,
  env: Record<string, string> = {},
): Promise<Ran> =>
  new Promise((resolve, reject) => {
    const child = spawn(command, args, { env: { PATH: process.env.PATH, ...env } })
    const ran: Ran = { code: null, stdout: '', stderr: '' }
    child.stdout.setEncoding('utf8').on('data', text => {
      ran.stdout += text
    })
    child.stderr.setEncoding('utf8').on('data', text => {
      ran.stderr += text
    })
    child.on('error', reject)
    child.on('close', code => resolve({ ...ran, code }))
    // It may end before it has read everything.
    child.stdin.on('error', () => {})
    child.stdin.end(input)
  })
