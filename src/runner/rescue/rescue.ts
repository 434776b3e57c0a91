/**
 * Work at risk, saved before its machine is deleted: for each repository one git bundle under `home/rescued/`, proven by
 * reading it back with the host's own git. What the guest sends is hostile until then.
 *
 * A bundle stands alone: every branch, tag and stash with its whole history, so that it can be read back, and proven,
 * without any remote. What was in no commit is in commits of its own, made in a store beside the repository: nothing in
 * the guest's repository is changed. Under `refs/agent-swarm/rescued/`: `head`, `worktree`, `staged`, `stash-0` and on.
 */
import { randomBytes } from 'node:crypto'
import { closeSync, existsSync, fsyncSync, openSync, readSync } from 'node:fs'
import { mkdir, readdir, readFile, rename, rm, stat, statfs, writeFile } from 'node:fs/promises'
import { devNull, hostname } from 'node:os'
import { join } from 'node:path'
import * as v from 'valibot'
import { type Ticket, timestamp } from '../../domain.ts'
import { fail, failureOf } from '../../errors.ts'
import type { Run } from '../../exec.ts'
import type { Requester } from '../../schema/action.ts'
import { repositoriesScript, type UnsavedRepository } from './unsaved-work.ts'

/** Bytes. A guest cannot fill our disk: a bundle is no larger than this, and leaves so much free, its proof included. */
const MOST_BYTES = 20 * 1024 ** 3
const LEFT_FREE_BYTES = 1024 ** 3
const PROOF_DEADLINE_MS = 10 * 60_000

// ── In the guest ───────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * Prints the bundle of one repository on stdout; on stderr what it holds: `path`, one `ref` each, `shallow` commits, and
 * `end`, or `unsaved` with the reason. `line` is its line in the list of repositories. Filters and conversions of the
 * repository do not run: files are taken as they lie there.
 */
export const rescueScript = (line: number): string => `
save() {
${repositoriesScript}
unsaved() { printf 'unsaved\\t%s\\n' "$1" >&2; exit 1; }
dotgit=$(printf '%s\\n' "$found" | sed -n '${Math.trunc(line)}p')
[ -n "$dotgit" ] || unsaved 'it is not there any more'
look_at "$dotgit"
room=$(as_owner mktemp -d "\${TMPDIR:-/var/tmp}/agent-swarm-rescue.XXXXXX" 2>/dev/null) || unsaved 'the machine has no room for temporary files'
trap 'rm -rf "$room"' EXIT
trap 'exit 1' HUP INT TERM PIPE
store=$room/store index=$room/index
path_of() { part=$(at rev-parse --git-path "$1") || return 1; case $part in /*) ;; *) part=$repo/$part ;; esac; printf '%s' "$part"; }
# With its time: git tells by the index's own whether it may trust the times in it.
copy() { [ ! -f "$1" ] || as_owner cp -p -- "$1" "$2" 2>/dev/null || unsaved 'the machine has no room for temporary files'; }
in_store() { ( export GIT_DIR="$store" GIT_WORK_TREE="$top" GIT_INDEX_FILE="$index"; plain_git -c core.bigFileThreshold=32m -C "$top" "$@" 2>/dev/null ); }
keep() { in_store update-ref "refs/agent-swarm/rescued/$1" "$2" || unsaved 'git cannot read all of it'; }
commit() { made=$(in_store commit-tree \${head:+-p "$head"} -m "$2" "$1") && keep "$3" "$made" || unsaved 'git cannot write what is in no commit'; }
export GIT_AUTHOR_NAME=agent-swarm GIT_AUTHOR_EMAIL=agent-swarm@localhost GIT_COMMITTER_NAME=agent-swarm GIT_COMMITTER_EMAIL=agent-swarm@localhost

top=$(at rev-parse --show-toplevel) && objects=$(path_of objects) && empty=$(at hash-object -t tree --stdin) || unsaved 'git cannot read it'
format=$(at rev-parse --show-object-format) || format=sha1
plain_git init -q --bare --template= --object-format="$format" "$store" >/dev/null 2>&1 &&
  as_owner mkdir -p "$store/info" && printf '%s\\n' "$objects" | as_owner tee "$store/objects/info/alternates" >/dev/null &&
  printf '* -text -ident -filter -working-tree-encoding\\n' | as_owner tee "$store/info/attributes" >/dev/null || unsaved 'the machine has no room for temporary files'
copy "$(path_of shallow)" "$store/shallow"
copy "$(path_of info/exclude)" "$store/info/exclude"
copy "$(path_of index)" "$room/index"
copy "$(path_of index)" "$room/staged"
for shared in "$(dirname "$(path_of index)")"/sharedindex.*; do copy "$shared" "$store/"; done

refs=$(at for-each-ref --format='create %(refname) %(objectname)') || unsaved 'git cannot read all of it'
refs=$(printf '%s\\n' "$refs" | grep -v '^create refs/remotes/' || :)
[ -z "$refs" ] || printf '%s\\n' "$refs" | in_store update-ref --stdin || unsaved 'git cannot read all of it'
head=$(at rev-parse -q --verify 'HEAD^{commit}') || head=
if branch=$(at symbolic-ref -q HEAD); then in_store symbolic-ref HEAD "$branch"; elif [ -n "$head" ]; then in_store update-ref --no-deref HEAD "$head"; fi
[ -z "$head" ] || keep head "$head"
if at rev-parse -q --verify refs/stash >/dev/null; then
  n=0
  for one in $(at rev-list -g refs/stash || at rev-parse refs/stash); do keep "stash-$n" "$one"; n=$((n + 1)); done
  [ "$n" != 0 ] || keep stash-0 "$(at rev-parse refs/stash)"
fi

head_tree=$empty
[ -z "$head" ] || head_tree=$(in_store rev-parse -q --verify "$head^{tree}") || unsaved 'git cannot read all of it'
index=$room/staged
unmerged=$(in_store ls-files --unmerged) || unsaved 'git cannot read what is staged'
# In the middle of a merge a file has no one staged state: as it lies there.
[ -z "$unmerged" ] || in_store diff-files -z --name-only --diff-filter=U | in_store update-index -z --add --remove --stdin || unsaved 'git cannot read what is staged'
staged=$(in_store write-tree) || unsaved 'git cannot read what is staged'
index=$room/index
in_store add -A --ignore-errors >/dev/null
# What is left now is a repository of its own, which has its own bundle.
left=$(in_store ls-files --others --exclude-standard) && in_store diff-files --quiet --ignore-submodules=dirty || unsaved 'not every changed file can be read'
[ -z "$(printf '%s\\n' "$left" | grep -v '/"\\{0,1\\}$')" ] || unsaved 'not every changed file can be read'
tree=$(in_store write-tree) || unsaved 'git cannot write what is in no commit'
[ "$tree" = "$head_tree" ] || commit "$tree" 'What was in the working tree' worktree
[ "$staged" = "$head_tree" ] || [ "$staged" = "$tree" ] || commit "$staged" 'What was staged' staged

printf 'path\\t%s\\n' "$shown" >&2
in_store for-each-ref --format='%(objectname) %(refname)' | awk '{ print "ref\\t" $1 "\\t" $2 }' >&2
[ ! -f "$store/shallow" ] || awk '{ print "shallow\\t" $1 }' "$store/shallow" >&2
in_store bundle create -q - --all || unsaved 'git cannot write a bundle of it'
printf 'end\\n' >&2
}
save </dev/null
exit 0
`

// ── What the guest said ────────────────────────────────────────────────────────────────────────────────────────────

const OID = '[0-9a-f]{40}(?:[0-9a-f]{24})?'
const REF_LINE = new RegExp(`^ref\t(${OID})\t(refs/[^\\0-\\x20\\x7f~^:?*[\\\\]{1,500})$`)
const SHALLOW_LINE = new RegExp(`^shallow\t(${OID})$`)
const OURS = 'refs/agent-swarm/rescued/'

type Said = { refs: Map<string, string>; shallow: string[] }
const isSha256 = (refs: Said['refs']) => [...refs.values()].some(oid => oid.length === 64)

/** What came of the script. Other lines on stderr are those of sudo and the like. */
export const parseSaid = (stderr: string, path: string): Said => {
  const lines = stderr.split('\n')
  const unsaved = lines.find(line => line.startsWith('unsaved\t'))?.slice('unsaved\t'.length)
  if (unsaved !== undefined)
    throw fail('unsaved-work', /^[\x20-\x7e]{1,100}$/.test(unsaved) ? unsaved : 'the machine could not do it')
  if (lines.findLast(line => line !== '') !== 'end') throw fail('unsaved-work', 'the machine gave no whole answer')
  const paths = lines.filter(line => line.startsWith('path\t'))
  if (paths.length !== 1 || paths[0] !== `path\t${path}`)
    throw fail('unsaved-work', 'the repositories changed while they were looked at')
  const refs = lines.filter(line => line.startsWith('ref\t')).map(line => line.match(REF_LINE))
  const shallow = lines.filter(line => line.startsWith('shallow\t')).map(line => line.match(SHALLOW_LINE))
  if (refs.length === 0 || refs.includes(null) || shallow.includes(null))
    throw fail('unsaved-work', 'the machine gave an answer that makes no sense')
  return {
    refs: new Map(refs.map(match => [match?.[2] ?? '', match?.[1] ?? ''])),
    shallow: shallow.map(match => match?.[1] ?? ''),
  }
}

// ── Proof ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A bundle whose objects are allowed to be missing (`@filter`) proves nothing. */
const HEADER = /^# v(?:2 git bundle\n|3 git bundle\n(?:@object-format=sha(?:1|256)\n)?)(?=[0-9a-f])/

const beginning = (file: string): string => {
  const bytes = Buffer.alloc(256)
  const fd = openSync(file, 'r')
  try {
    return bytes.subarray(0, readSync(fd, bytes, 0, bytes.length, 0)).toString('latin1')
  } finally {
    closeSync(fd)
  }
}

const hostGit = (run: Run, signal: AbortSignal) => async (doing: string, argv: readonly string[]) =>
  (
    await run(
      'git',
      [
        ...['-c', `core.hooksPath=${devNull}`, '-c', 'core.bigFileThreshold=32m', '-c', 'gc.auto=0'],
        ...['-c', 'maintenance.auto=false', '-c', 'fetch.fsckObjects=false'],
        ...argv,
      ],
      {
        doing,
        deadline: PROOF_DEADLINE_MS,
        signal,
        env: {
          GIT_CONFIG_GLOBAL: devNull,
          GIT_CONFIG_NOSYSTEM: '1',
          GIT_TERMINAL_PROMPT: '0',
          GIT_NO_REPLACE_OBJECTS: '1',
          GIT_ALLOW_PROTOCOL: 'file',
        },
      },
    )
  ).stdout

/**
 * Reads a bundle back into an empty repository of its own: every object is hashed again (index-pack), each that a ref
 * needs is there (fsck), the refs are those that the guest named, and what was found at risk is in it. Throws otherwise.
 */
const prove = async (
  git: ReturnType<typeof hostGit>,
  room: string,
  bundle: string,
  { refs, shallow }: Said,
  found: UnsavedRepository,
): Promise<{ commits: number; files: number }> => {
  const wrong = (why: string) => fail('unsaved-work', `what came from the machine cannot be proven: ${why}`)
  if (!HEADER.test(beginning(bundle))) throw wrong('it is no whole git bundle')
  const proof = join(room, 'proof')
  const of = (...argv: string[]) => git('reading the bundle back', ['--git-dir', proof, ...argv])
  try {
    await git('making a repository to read the bundle back', [
      ...['init', '--quiet', '--bare', '--template=', ...(isSha256(refs) ? ['--object-format=sha256'] : []), proof],
    ])
    if (shallow.length > 0) await writeFile(join(proof, 'shallow'), lines(shallow))
    await of(
      'fetch',
      '--quiet',
      '--no-tags',
      '--no-write-fetch-head',
      '--no-recurse-submodules',
      bundle,
      '+refs/*:refs/*',
    )
    await of('fsck', '--connectivity-only', '--no-dangling', '--no-progress')
    const there = (await of('for-each-ref', '--format=%(objectname) %(refname)'))
      .split('\n')
      .filter(line => line !== '')
    const said = [...refs].map(([ref, oid]) => `${oid} ${ref}`)
    if (there.sort().join('\n') !== said.sort().join('\n')) throw wrong('its refs are not those that the machine named')
    const stashes = [...refs.keys()].filter(ref => ref.startsWith(`${OURS}stash-`)).length
    if (stashes < found.stashes) throw wrong(`${found.stashes} stashes were found, and ${stashes} came`)
    const commits = Number(await of('rev-list', '--count', '--all'))
    if (!(commits >= found.unpushed)) throw wrong(`${found.unpushed} unpushed commits were found, and ${commits} came`)
    const base = refs.get(`${OURS}head`) ?? (await of('hash-object', '-t', 'tree', devNull)).trim()
    const changed = new Set<string>()
    for (const name of ['worktree', 'staged']) {
      const oid = refs.get(OURS + name)
      if (oid === undefined) continue
      const names = await of('diff-tree', '-r', '-z', '--name-only', '--no-renames', base, oid)
      for (const one of names.split('\0')) if (one !== '') changed.add(one)
    }
    const atRisk = found.uncommitted + found.untracked
    if (changed.size < atRisk) throw wrong(`${atRisk} changed files were found, and ${changed.size} came`)
    return { commits, files: changed.size }
  } finally {
    await rm(proof, { recursive: true, force: true })
  }
}

// ── The folder ─────────────────────────────────────────────────────────────────────────────────────────────────────

const count = v.pipe(v.number(), v.integer(), v.minValue(0))
const noteSchema = v.object({ repositories: v.array(v.object({ path: v.string(), bytes: count })) })
const NOTE = 'rescued.json'
const FOLDER = /^([A-Z][A-Z0-9_]{1,9}-[1-9][0-9]{0,6})-(\d{4})(\d\d)(\d\d)-(\d\d)(\d\d)(\d\d)(?:-\d{1,3})?$/
const UNFINISHED = /^\.new-([A-Z][A-Z0-9_]{1,9}-[1-9][0-9]{0,6})-[0-9a-f]{8}$/

const lines = (all: readonly string[]) => all.map(one => `${one}\n`).join('')
const rescuedFolder = (home: string) => join(home, 'rescued')
const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`
/** Part of a file's name out of a path in the guest. */
const slug = (path: string) =>
  path
    .slice(path.lastIndexOf('/') + 1)
    .replaceAll(/[^A-Za-z0-9._-]+/g, '-')
    .replace(/^[.-]+/, '')
    .slice(0, 40) || 'repository'

/** The exact commands, for a folder that there is not yet. No text of the guest is in them but letters of a name. */
const commandsFor = (ticket: Ticket, name: string, file: string, { refs, shallow }: Said): string[] => {
  const has = (part: string) => refs.has(OURS + part)
  const stashes = [...refs.keys()].filter(ref => ref.startsWith(`${OURS}stash-`)).length
  return [
    `git init ${isSha256(refs) ? '--object-format=sha256 ' : ''}${name}`,
    ...(shallow.length === 0 ? [] : [`cp ${quoted(`${file}.shallow`)} ${name}/.git/shallow`]),
    `git -C ${name} fetch ${quoted(`${file}.bundle`)} '+refs/agent-swarm/*:refs/*' '+refs/heads/*:refs/rescued/heads/*'`,
    ...(has('head') ? [`git -C ${name} switch -c rescued-${ticket} refs/rescued/head`] : []),
    ...(has('worktree') ? [`git -C ${name} restore --source=refs/rescued/worktree --worktree .`] : []),
    ...(has('staged') ? [`git -C ${name} restore --source=refs/rescued/staged --staged .`] : []),
    // The oldest first, so that they are in their order again.
    ...Array.from({ length: stashes }, (_, n) => stashes - 1 - n).map(
      n => `git -C ${name} stash store -m 'rescued stash ${n}' refs/rescued/stash-${n}`,
    ),
  ]
}

const HOW =
  'Each bundle stands alone: it needs no remote, and holds every branch, tag and stash with its history (of a shallow clone: as far as the clone had it). What was in no commit is a commit on refs/agent-swarm/rescued/worktree, what was staged and differs from it on refs/agent-swarm/rescued/staged; both stand on refs/agent-swarm/rescued/head, the commit that was checked out. Files are as they lay there: no filter or line-ending conversion was applied. Not in it: files that git ignores, the configuration and hooks of the repository, remote-tracking branches. A submodule, another work tree or a repository inside another one has a bundle of its own when it held work at risk. "getBack" makes a new repository of it; in a clone that you have, leave out "git init" (and "cp").'

const sync = (path: string) => {
  const fd = openSync(path, 'r')
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

type Machine = { ticket: Ticket; provider: string; vmId: string; baseImage: string }
/** Runs a script in the guest, its stdout into a file. */
type Stream = (script: string, into: { file: string; limit: number }) => Promise<{ stderr: string }>

/** What the disk has room for. A proof takes about as much again as what it proves. */
const roomFor = async (folder: string): Promise<number> => {
  const disk = await statfs(folder)
  const bytes = Math.floor((disk.bavail * disk.bsize - LEFT_FREE_BYTES) / 2)
  if (bytes <= 0)
    throw fail('disk-full', `the disk of ${folder} has less than 1 GiB free`, 'Make room, and try it again.')
  return Math.min(MOST_BYTES, bytes)
}

/**
 * Saves every repository of `found`, and returns the folder that then holds them, proven and on disk. When it throws,
 * nothing is left of it; when the process dies, `sweepRescues` removes what is unfinished. The caller holds the ticket's lock.
 */
export const rescue = async (
  { home, run, clock }: { home: string; run: Run; clock: () => Date },
  machine: Machine,
  found: readonly UnsavedRepository[],
  {
    stream,
    by,
    signal,
    onPhase,
  }: { stream: Stream; by: Requester; signal: AbortSignal; onPhase: (phase: string) => void },
): Promise<string> => {
  const git = hostGit(run, signal)
  // Without it nothing could be proven: better known before anything is transferred.
  await git('looking for git on this host, which reads back what is saved', ['--version'])
  const { ticket, provider, vmId, baseImage } = machine
  const parent = rescuedFolder(home)
  await mkdir(parent, { recursive: true, mode: 0o700 })
  const unfinished = join(parent, `.new-${ticket}-${randomBytes(4).toString('hex')}`)
  const at = clock()
  let folder = join(parent, `${ticket}-${timestamp(at)}`)
  for (let n = 2; existsSync(folder); n += 1) folder = join(parent, `${ticket}-${timestamp(at)}-${n}`)

  const save = async ({ line, ...one }: UnsavedRepository, n: number) => {
    const name = `${n + 1}-${slug(one.path)}`
    const bundle = join(unfinished, `${name}.bundle`)
    onPhase('saving work')
    const { stderr } = await stream(rescueScript(line), { file: bundle, limit: await roomFor(parent) })
    const said = parseSaid(stderr, one.path)
    onPhase('proving it')
    const proven = await prove(git, unfinished, bundle, said, { line, ...one })
    sync(bundle)
    const shallow = said.shallow.length === 0 ? null : `${name}.shallow`
    if (shallow !== null) await writeFile(join(unfinished, shallow), lines(said.shallow), { mode: 0o600, flush: true })
    return {
      ...one,
      ...proven,
      bundle: `${name}.bundle`,
      bytes: (await stat(bundle)).size,
      refs: Object.fromEntries(said.refs),
      getBack: commandsFor(ticket, slug(one.path), join(folder, name), said),
    }
  }

  await mkdir(unfinished, { mode: 0o700 })
  try {
    const repositories = []
    for (const [n, one] of found.entries()) {
      repositories.push(
        await save(one, n).catch(error => {
          const { kind, message, remedy } = failureOf(error, 'saving it')
          throw fail(kind, `${one.path}: ${message}`, remedy, error)
        }),
      )
    }
    const note = {
      ticket,
      savedAt: at.toISOString(),
      by,
      host: hostname(),
      machine: { provider, vmId, baseImage },
      how: HOW,
      repositories,
    }
    await writeFile(join(unfinished, NOTE), `${JSON.stringify(note, null, 2)}\n`, { mode: 0o600, flush: true })
    sync(unfinished)
    await rename(unfinished, folder)
    sync(parent)
    return folder
  } catch (error) {
    await rm(unfinished, { recursive: true, force: true })
    throw error
  }
}

// ── Afterwards ─────────────────────────────────────────────────────────────────────────────────────────────────────

const namesIn = async (folder: string): Promise<string[]> =>
  readdir(folder).catch(error => {
    if (error.code === 'ENOENT') return []
    throw error
  })

/** Removes what a dead process left unfinished. `ifIdle` runs its work only while nobody works on the ticket. */
export const sweepRescues = async (
  home: string,
  ifIdle: (ticket: Ticket, work: () => Promise<void>) => Promise<unknown>,
): Promise<void> => {
  for (const name of await namesIn(rescuedFolder(home))) {
    const ticket = name.match(UNFINISHED)?.[1]
    if (ticket !== undefined)
      await ifIdle(ticket, () => rm(join(rescuedFolder(home), name), { recursive: true, force: true }))
  }
}

export type Rescued = {
  ticket: Ticket
  /** ISO 8601, UTC. */
  savedAt: string
  folder: string
  /** Of all its bundles, and their repositories as paths in the guest; null when its note cannot be read. */
  bytes: number | null
  repositories: string[] | null
}

const MOST_LISTED = 200
const MOST_NOTE_BYTES = 16 * 1024 * 1024

/** What was rescued, the newest first, at most 200. A folder whose note cannot be read is listed all the same. */
export const listRescued = async (home: string): Promise<Rescued[]> => {
  const folders = (await namesIn(rescuedFolder(home))).flatMap(name => {
    const [, ticket, ...at] = name.match(FOLDER) ?? []
    const [year, month, day, hour, minute, second] = at
    return ticket === undefined ? [] : [{ name, ticket, at: `${year}-${month}-${day}T${hour}:${minute}:${second}Z` }]
  })
  const newest = folders.sort((a, b) => (a.at < b.at ? 1 : -1)).slice(0, MOST_LISTED)
  return Promise.all(
    newest.map(async ({ name, ticket, at }) => {
      const folder = join(rescuedFolder(home), name)
      const known = { ticket, savedAt: at, folder }
      try {
        const file = join(folder, NOTE)
        if ((await stat(file)).size > MOST_NOTE_BYTES) return { ...known, bytes: null, repositories: null }
        const note = v.parse(noteSchema, JSON.parse(await readFile(file, 'utf8')))
        return {
          ...known,
          bytes: note.repositories.reduce((sum, one) => sum + one.bytes, 0),
          repositories: note.repositories.map(one => one.path),
        }
      } catch {
        return { ...known, bytes: null, repositories: null }
      }
    }),
  )
}
