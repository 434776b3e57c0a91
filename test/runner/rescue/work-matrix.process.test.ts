/**
 * Each kind of work × each way that leads to a delete, with real git, and what was rescued read back. `npm test` takes each kind
 * once, `npm run test:long` all pairs.
 */
import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Decision } from '../../../handlers/handler.ts'
import { handlers } from '../../../handlers/index.ts'
import { openRunnerContext, type RunnerContext } from '../../../src/runner/context.ts'
import { execute } from '../../../src/runner/executor.ts'
import { restoreIntoFolder } from '../../../src/runner/rescue/restore.ts'
import type { Action } from '../../../src/schema/action.ts'
import {
  environment,
  pullRequestEvent,
  pullRequestFacts,
  pullRequestNow,
  rules,
  ticketEvent,
  ticketFacts,
} from '../../handlers/fixtures.ts'
import { openCli } from '../../support/cli.ts'
import { actions, configFor } from '../../support/context.ts'
import { isLong } from '../../support/samples.ts'

const cli = openCli()
const home = join(cli.home, 'state')
/** The project as a machine gets it, made once. */
const template = mkdtempSync(join(tmpdir(), 'agent-swarm-template-'))
let context: RunnerContext
let merged: string[]

const shell = (folder: string, script: string): string =>
  execFileSync('sh', ['-ec', script], {
    cwd: folder,
    encoding: 'utf8',
    env: {
      ...{
        PATH: process.env.PATH,
        HOME: template,
        GIT_CONFIG_NOSYSTEM: '1',
        GIT_AUTHOR_NAME: 'n',
        GIT_AUTHOR_EMAIL: 'e',
      },
      ...{ GIT_COMMITTER_NAME: 'n', GIT_COMMITTER_EMAIL: 'e' },
    },
  }).trimEnd()

beforeAll(async () => {
  context = openRunnerContext(await configFor(home))
  shell(
    template,
    `git init -q -b main shop; cd shop; echo 1 > a; printf '.env\\nbuilt\\n' > .gitignore; git add .; git commit -qm one
     git remote add origin https://example.org/shop; git update-ref refs/remotes/origin/main HEAD
     git checkout -q -b work; for n in 1 2; do echo $n > w; git add w; git commit -qm "work $n"; done; git checkout -q main`,
  )
  merged = shell(join(template, 'shop'), 'git rev-list main..work').split('\n')
  // Every other state begins without that branch, and without a reflog that remembers it.
  shell(template, 'cp -r shop squashed; cd shop; git branch -q -D work; rm -r .git/logs')
})
afterAll(() => {
  context.close()
  cli.close()
  rmSync(template, { recursive: true })
})

const onlyAction = (decision: Decision): Action => {
  if (decision.verdict !== 'act' || decision.actions[0] === undefined) throw new Error(JSON.stringify(decision))
  return { ...decision.actions[0], at: undefined } as Action
}
const names = (ticket: string) => ({ branch: `${ticket}-x`, title: '' })
const run = (ticket: string, action: Action) =>
  execute(
    context,
    // The bot names the commits of merged pull requests.
    { ...action, ticket, ...(action.kind === 'delete' ? { mergedCommits: merged } : {}) } as Action,
    {
      actionId: `github:${ticket}:${action.kind}`,
      correlation: null,
      signal: new AbortController().signal,
      onPhase: () => {},
    },
  )

/** Returns whether the machine was deleted. */
const ways = {
  merge: async (ticket: string) => {
    const now = pullRequestNow({ state: 'merged', ...names(ticket) })
    const event = pullRequestEvent('closed', { merged: true, ...names(ticket) })
    return (await run(ticket, onlyAction(handlers['pull-request'](event, pullRequestFacts({ now }), rules)))).result
  },
  command: async (ticket: string) => {
    const event = {
      ...{
        kind: 'comment' as const,
        pullRequest: { repo: 'acme/shop', number: 1 },
        commentId: 9,
        body: '/swarm delete',
      },
      ...{ author: 'dev', authorIsBot: false, unfit: null, at: null },
    } as const
    const facts = {
      ...{ permission: 'write' as const, teams: [], now: pullRequestNow(names(ticket)), allowed: null },
      since: { personRequest: null, lastRequest: null, moves: [] },
    } as const
    return (await run(ticket, onlyAction(handlers.comment(event, facts, rules)))).result
  },
  Done: async (ticket: string) => {
    const facts = ticketFacts('done', { environment: { ...environment(), ticket } })
    return (await run(ticket, onlyAction(handlers.ticket(ticketEvent('done', { ticket }), facts, rules)))).result
  },
  CLI: async (ticket: string) => ((await cli.swarm(['delete', ticket])).code === 0 ? 'done' : 'failed'),
} satisfies Record<string, (ticket: string) => Promise<string>>
type Way = keyof typeof ways

const diskOf = (ticket: string) => join(home, 'synthetic', context.registry.environment(ticket)?.vmId ?? 'none', 'disk')
type State = {
  /** In the project of the machine, before the delete. */
  script: string
  /** What the repository that came back answers; null when nothing is to be rescued. */
  reads: readonly [script: string, answer: string] | null
  /** What the machine is in besides. */
  besides?: (ticket: string) => Promise<void>
  project?: 'squashed'
  /** Nothing is rescued by these ways. */
  savedElsewhere?: readonly Way[]
  isKept?: true
}
const states: Record<string, State> = {
  clean: { script: 'echo x > built', reads: null },
  dirty: { script: 'echo 2 > a', reads: ['git diff --name-only; cat a', 'a\n2'] },
  untracked: { script: 'echo x > f', reads: ['git status --porcelain; cat f', '?? f\nx'] },
  stash: { script: 'echo 2 > a; git stash -q', reads: ['git stash list | wc -l; git show stash:a', '1\n2'] },
  unpushed: { script: 'git commit -q --allow-empty -m two', reads: ['git log -1 --format=%D:%s', 'HEAD -> main:two'] },
  detached: {
    script: 'git checkout -q --detach; git commit -q --allow-empty -m two',
    reads: ['git symbolic-ref -q HEAD || git log -1 --format=%s', 'two'],
  },
  'reflog only': {
    script: 'git commit -q --allow-empty -m two; git commit -q --allow-empty -m three; git reset -q --hard HEAD~2',
    reads: ['git log -2 --format=%s refs/agent-swarm/rescued/reflog-0; git log --format=%s', 'three\ntwo\none'],
  },
  'squash-merged': {
    ...{ script: ':', project: 'squashed', reads: ['git log --format=%s work', 'work 2\nwork 1\none'] },
    savedElsewhere: ['merge', 'command', 'Done'],
  },
  'ignored but named': { script: 'echo secret > .env; echo x > built', reads: ['cat .env; ls', 'secret\na'] },
  stopped: {
    script: 'echo 2 > a',
    reads: ['cat a', '2'],
    // Nobody asked it: the host lost its power.
    besides: async ticket =>
      (await context.provider('synthetic')).stopVm(context.registry.environment(ticket)?.vmId ?? ''),
  },
  unreachable: {
    ...{ script: 'echo 2 > a', reads: null, isKept: true },
    besides: async ticket => renameSync(diskOf(ticket), `${diskOf(ticket)}-away`),
  },
}

const rescuesOf = (ticket: string): string[] =>
  existsSync(join(home, 'rescued'))
    ? readdirSync(join(home, 'rescued')).filter(name => name.startsWith(`${ticket}-2`))
    : []

const PROJECT = {
  ...{ repo: 'acme/shop', branch: null, summary: null, path: '~/shop', ports: [], save: ['.env'] },
  ...{ setup: null, start: null, problem: null, prepared: true },
}
const pairs = Object.entries(states).flatMap(([state, row], n) =>
  Object.keys(ways).flatMap((way, m) =>
    isLong || n % 4 === m ? [[state, way as Way, n * 4 + m + 1, row] as const] : [],
  ),
)

describe('work in a machine', () => {
  test.for(pairs)(
    '%s × %s',
    async ([, way, number, { script, reads, besides, project = 'shop', savedElsewhere, isKept }]) => {
      const ticket = `DROP-${number}`
      await run(ticket, actions.create(ticket))
      context.registry.setProject(ticket, PROJECT)
      cpSync(join(template, project), join(diskOf(ticket), 'shop'), { recursive: true, preserveTimestamps: true })
      shell(join(diskOf(ticket), 'shop'), script)
      await besides?.(ticket)

      expect(await ways[way](ticket)).toBe(isKept ? 'failed' : 'done')
      if (isKept) {
        expect(context.registry.environment(ticket)).toMatchObject({ status: 'stopped', unsavedWork: { known: false } })
        expect(readFileSync(join(`${diskOf(ticket)}-away`, 'shop', 'a'), 'utf8')).toBe('2\n')
        return
      }
      expect(context.registry.environment(ticket)).toBeNull()
      const rescues = rescuesOf(ticket)
      if (reads === null || savedElsewhere?.includes(way)) return expect(rescues).toEqual([])
      expect(rescues).toHaveLength(1)
      const into = join(cli.home, `back-${number}`)
      mkdirSync(into)
      const tools = { home, run: context.run, signal: new AbortController().signal, onPhase: () => {} }
      await restoreIntoFolder(tools, rescues[0] ?? '', into)
      const [question, answer] = reads
      expect(shell(join(into, 'shop'), question)).toBe(answer)
    },
  )
})
