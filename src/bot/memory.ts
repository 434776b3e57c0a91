/**
 * What the bot remembers beside its queue: which pull requests belong to a ticket, where its comments are, and what the
 * runners said they have. A file of its own, so that the queue may move elsewhere without it. Times are epoch milliseconds.
 */
import type { StatusCategory, SwarmEvent } from '../../handlers/handler.ts'
import type { Action, CommentRef, Environment, Outcome, PullRequestRef, ReplyTo, Requester, Ticket } from '../domain.ts'
import { HEARTBEAT_MS, type HeartbeatRequest } from '../protocol.ts'
import { type OpenStore, openStore } from '../store.ts'

const migrations = [
  `
  create table ticket (
    ticket text primary key not null,
    category text,
    category_at integer,
    -- When it was last in category "new".
    last_new_at integer,
    -- When its last environment was deleted or its last pull request merged.
    ended_at integer,
    had_pull_request integer not null default 0
  ) strict, without rowid;
  -- Every state that was asked for, with who asked: the record of people's will, longer than the queue keeps its actions.
  create table asked (
    action_id text primary key not null,
    ticket text not null,
    kind text not null,
    asked_by text not null,
    at integer not null
  ) strict, without rowid;
  create table pull_request (
    repo text not null,
    number integer not null,
    ticket text not null,
    branch text not null,
    state text not null check (state in ('open','closed','merged')),
    primary key (repo, number)
  ) strict, without rowid;
  create index pull_request_ticket on pull_request (ticket);
  create table repository (repo text primary key not null, installation_id integer not null) strict, without rowid;
  -- Our own comments on GitHub. about: the ticket of a status comment, the comment that a reply answers.
  create table comment (
    kind text not null check (kind in ('status','reply')),
    repo text not null,
    number integer not null,
    about text not null,
    comment_id integer not null,
    fingerprint text not null,
    primary key (kind, repo, number, about)
  ) strict, without rowid;
  -- Our own comments on Jira: begun before they are sent, so that a crash in between is seen.
  create table jira_comment (
    about text primary key not null,
    ticket text not null,
    begun_at integer not null,
    done_at integer
  ) strict, without rowid;
  -- The commands of a comment, each with what came of it.
  create table command (
    repo text not null,
    comment_id integer not null,
    line integer not null,
    number integer not null,
    at integer not null,
    action_id text,
    -- JSON of Action.
    action text,
    -- An answer that needed no action, or JSON of Outcome.
    said text,
    outcome text,
    ok integer,
    primary key (repo, comment_id, line)
  ) strict, without rowid;
  create index command_action on command (action_id);
  -- What the runners have. One that is gone stays, with when and how, until the ticket has another.
  create table environment (
    ticket text primary key not null,
    vm_id text not null,
    runner_id text,
    body text not null,
    heard_at integer not null,
    missing integer not null default 0,
    gone_at integer,
    deleted integer not null default 0
  ) strict, without rowid;
  create table runner (
    id text primary key not null,
    host text not null,
    providers text not null,
    seen_at integer not null
  ) strict, without rowid;
  -- What the bot last had done to a ticket.
  create table operation (
    ticket text primary key not null,
    action text not null,
    outcome text not null,
    at integer not null
  ) strict, without rowid;
  `,
  `
  -- Events that are decided again later: a delete after its minutes of grace.
  create table planned (
    ticket text primary key not null,
    -- JSON of SwarmEvent.
    event text not null,
    at integer not null
  ) strict, without rowid;
  `,
  `
  -- In which state the last event that was decided found it, and when that was: what it is in now and was not told is missing.
  alter table pull_request add column settled text;
  alter table pull_request add column settled_at integer;
  -- By a command: what holds until the next transition or command.
  alter table asked add column person integer not null default 0;
  create index asked_ticket on asked (ticket, at);
  -- How far each poll has come, as JSON, and where the branches of tickets were.
  create table place (what text primary key not null, value text not null) strict, without rowid;
  create table head (
    repo text not null,
    ref text not null,
    sha text not null,
    primary key (repo, ref)
  ) strict, without rowid;
  `,
  `
  -- Changes in Jira, and the delivery that told of each: one that another way tells too is decided once.
  create table change (
    id text primary key not null,
    delivery text not null,
    at integer not null
  ) strict, without rowid;
  -- JSON of category and assignee as the last event that was decided found them.
  alter table ticket add column settled text;
  `,
  `
  -- A comment that holds commands may be on GitHub or in Jira: thread says which.
  alter table command rename to command_before;
  create table command (
    -- As threadOf makes it.
    thread text not null,
    line integer not null,
    -- JSON of CommentRef.
    comment text not null,
    at integer not null,
    action_id text,
    -- JSON of Action.
    action text,
    -- JSON of an answer that needed no action, or of Outcome.
    said text,
    outcome text,
    ok integer,
    ended_at integer,
    primary key (thread, line)
  ) strict, without rowid;
  insert into command
    select 'github:' || repo || ':' || comment_id, line,
      json_object('repo', repo, 'number', number, 'commentId', comment_id), at, action_id, action,
      case when said is null then null else json_object('text', said, 'help', json('false')) end, outcome, ok, null
    from command_before;
  drop table command_before;
  create index command_action on command (action_id);
  create index command_waiting on command (at) where ok is null;
  -- What was last done to a ticket, or refused: the newest few.
  drop table operation;
  create table operation (
    seq integer primary key autoincrement,
    ticket text not null,
    -- JSON of Operation.
    body text not null
  ) strict;
  create index operation_ticket on operation (ticket, seq);
  -- Our answers in Jira are edited like those on GitHub.
  alter table jira_comment add column comment_id text;
  alter table jira_comment add column fingerprint text;
  -- Links to pull requests that Jira has, with what they say.
  create table jira_link (
    repo text not null,
    number integer not null,
    ticket text not null,
    fingerprint text not null,
    primary key (repo, number, ticket)
  ) strict, without rowid;
  -- The commit of a fork's pull request on which commands may act.
  create table allowed (
    repo text not null,
    number integer not null,
    commit_sha text not null,
    primary key (repo, number)
  ) strict, without rowid;
  -- Who asked for something, and may not. The newest few thousand.
  create table audit (
    seq integer primary key autoincrement,
    -- The delivery, so that deciding it again adds nothing.
    id text unique not null,
    at integer not null,
    who text not null,
    what text not null,
    place text not null,
    reason text not null
  ) strict;
  `,
  `
  -- A repository's own rules, as they were read last from its default branch.
  create table repository_file (
    repo text primary key not null,
    etag text,
    -- The last content without a mistake; null: there is none, or never was one without.
    good text,
    -- JSON: what is wrong with the newest content.
    problems text not null,
    checked_at integer not null
  ) strict, without rowid;
  `,
  `
  -- The audit log has what was allowed as well, and which ticket it is about, where that is known.
  alter table audit add column verdict text not null default 'refused' check (verdict in ('allowed','refused'));
  alter table audit add column ticket text;
  create index audit_ticket on audit (ticket, seq);
  `,
  `
  -- When it was last moved there (not: seen there), by the sender's clock.
  alter table ticket add column to_new_at integer;
  alter table ticket add column to_progress_at integer;
  -- Null while it is open.
  alter table pull_request add column closed_at integer;
  `,
]

/** A runner that was not heard for so long is away. */
const RUNNER_AWAY_MS = 3 * HEARTBEAT_MS

export type PullRequestLink = PullRequestRef & {
  ticket: Ticket
  branch: string
  state: 'open' | 'closed' | 'merged'
  /** Epoch ms; null while it is open. */
  closedAt: number | null
}
/** `settled`: the state that the last decided event found, and when; null when none was decided. */
export type KnownPullRequest = PullRequestLink & { settled: { state: PullRequestLink['state']; at: number } | null }
/** How the ticket's machine was asked to be, and when, epoch ms. */
export type Wish = { who: string | null; kind: Action['kind']; at: number }
export type TicketFound = { category: StatusCategory; assignee: string | null }
export type OwnComment = { kind: 'status' | 'reply'; about: string } & PullRequestRef
/** A command of a comment. `outcome` and `said` are null while it is not done. */
export type HeardCommand = {
  comment: CommentRef
  line: number
  at: number
  actionId: string | null
  action: Action | null
  said: { text: string; help: boolean } | null
  outcome: Outcome | null
  ok: boolean | null
  endedAt: number | null
}
export type Mirrored = {
  environment: Environment
  runnerId: string | null
  heardAt: number
  /** When it was found to be gone; null while it is there. */
  goneAt: number | null
}
/** What was done to a ticket, or refused. `said`: why it failed or was refused, or what a delete saved first. `seconds`: how long it took. */
export type Operation = {
  what: string
  by: Requester
  at: number
  result: 'done' | 'failed' | 'refused'
  said: string | null
  seconds: number | null
}
/** `good`: the last content of the file that had no mistake. */
export type RepositoryFile = { etag: string | null; good: string | null; problems: string[]; checkedAt: number }
/** A command that somebody gave: where, what came of it, and why. `at` is epoch ms; `ticket` null where nothing says which. */
export type AuditLine = {
  at: number
  who: string
  place: string
  ticket: Ticket | null
  what: string
  verdict: 'allowed' | 'refused'
  reason: string
}
export type KnownRunner = { id: string; host: string; seenAt: number; connected: boolean }
export type Memory = ReturnType<typeof openMemory>

/** How many of a ticket's operations are kept, and how many lines of the audit log of each verdict: strangers push out none but strangers. */
const OPERATIONS_KEPT = 5
const AUDIT_KEPT = 5_000

/** Names the comment that commands stand in. */
export const threadOf = (comment: CommentRef): string =>
  'repo' in comment ? `github:${comment.repo}:${comment.commentId}` : `jira:${comment.ticket}:${comment.commentId}`
const commentOf = (to: CommentRef): CommentRef =>
  'repo' in to
    ? { repo: to.repo, number: to.number, commentId: to.commentId }
    : { ticket: to.ticket, commentId: to.commentId }

type Row = Record<string, string | number | bigint | null | Uint8Array>

const linkFrom = (row: Row): KnownPullRequest => ({
  repo: row.repo as string,
  number: row.number as number,
  ticket: row.ticket as string,
  branch: row.branch as string,
  state: row.state as PullRequestLink['state'],
  closedAt: row.closed_at as number | null,
  settled:
    row.settled === null ? null : { state: row.settled as PullRequestLink['state'], at: row.settled_at as number },
})
const json = <T>(cell: Row[string] | undefined): T | null => (typeof cell === 'string' ? (JSON.parse(cell) as T) : null)
/** All that a reader would see differently: not when it was looked at. */
const seen = (environment: Environment) => JSON.stringify({ ...environment, observedAt: null })

/** `path` may be `:memory:`. `clock` gives epoch milliseconds. */
export const openMemory = (path: string, clock: () => number, open: OpenStore = openStore) => {
  const { db, transaction: together } = open(path, migrations)
  const run = (sql: string, ...values: (string | number | null)[]) => db.prepare(sql).run(...values).changes
  const get = (sql: string, ...values: (string | number | null)[]) => db.prepare(sql).get(...values) as Row | undefined
  const all = (sql: string, ...values: (string | number | null)[]) => db.prepare(sql).all(...values) as Row[]

  const mirrored = (ticket: Ticket): Mirrored | null => {
    const row = get('select * from environment where ticket = ?', ticket)
    return row === undefined
      ? null
      : {
          environment: JSON.parse(row.body as string),
          runnerId: row.runner_id as string | null,
          heardAt: row.heard_at as number,
          goneAt: row.gone_at as number | null,
        }
  }
  const repositoryFile = (repo: string): RepositoryFile | null => {
    const row = get('select * from repository_file where repo = ?', repo)
    return row === undefined
      ? null
      : {
          etag: row.etag as string | null,
          good: row.good as string | null,
          problems: JSON.parse(row.problems as string),
          checkedAt: row.checked_at as number,
        }
  }
  const ended = (ticket: Ticket, at: number) =>
    void run(
      `insert into ticket (ticket, ended_at) values (?1, ?2)
       on conflict (ticket) do update set ended_at = max(coalesce(ended_at, 0), ?2)`,
      ticket,
      at,
    )

  /** `at`: when that happened which it was asked for by, epoch ms. `person`: a person asked, by a command. True when it is new. */
  const noteAsked = (
    actionId: string,
    { ticket, kind, by }: Pick<Action, 'ticket' | 'kind' | 'by'>,
    { at, person }: { at: number; person: boolean },
  ): boolean =>
    run(
      `insert into asked (action_id, ticket, kind, asked_by, at, person) values (?, ?, ?, ?, ?, ?)
       on conflict do nothing`,
      actionId,
      ticket,
      kind,
      JSON.stringify(by),
      at,
      Number(person),
    ) === 1

  /** Takes over what a runner says of one environment. True when a reader would see a difference. */
  const learn = (environment: Environment, runnerId: string | null): boolean => {
    const { ticket, vmId } = environment
    const row = get('select * from environment where ticket = ?', ticket)
    const known = mirrored(ticket)
    // A heartbeat that was on its way while the machine was deleted: names of machines are never used again.
    if (row !== undefined && row.deleted === 1 && row.vm_id === vmId) return false
    const older =
      known !== null &&
      known.goneAt === null &&
      known.environment.vmId === vmId &&
      environment.observedAt < known.environment.observedAt
    run(
      `insert into environment (ticket, vm_id, runner_id, body, heard_at) values (?, ?, ?, ?, ?)
       on conflict (ticket) do update set vm_id = excluded.vm_id, runner_id = coalesce(excluded.runner_id, runner_id),
         body = excluded.body, heard_at = excluded.heard_at, missing = 0, gone_at = null, deleted = 0`,
      ticket,
      vmId,
      runnerId,
      JSON.stringify(older ? known.environment : environment),
      clock(),
    )
    return !older && (known === null || known.goneAt !== null || seen(known.environment) !== seen(environment))
  }

  return {
    together,
    // ── Tickets ──
    ticket: (ticket: Ticket) => {
      const row = get('select * from ticket where ticket = ?', ticket)
      const endedAt = (row?.ended_at as number | null | undefined) ?? null
      const lastNewAt = (row?.last_new_at as number | null | undefined) ?? null
      return {
        category: (row?.category as StatusCategory | null | undefined) ?? null,
        endedSinceNew: endedAt !== null && (lastNewAt === null || lastNewAt <= endedAt),
        hadPullRequest: row?.had_pull_request === 1,
        toNewAt: (row?.to_new_at as number | null | undefined) ?? null,
        toProgressAt: (row?.to_progress_at as number | null | undefined) ?? null,
        /** Of what is known of its category. */
        categoryAt: (row?.category_at as number | null | undefined) ?? null,
        settled: json<TicketFound>(row?.settled),
      }
    },
    /** The ticket was in this category at that time. What is older than what is known changes nothing but `last_new_at`. */
    sawCategory: (ticket: Ticket, category: StatusCategory, at: number): void => {
      run(
        `insert into ticket (ticket, category, category_at) values (?1, ?2, ?3)
         on conflict (ticket) do update set category = ?2, category_at = ?3 where coalesce(category_at, 0) <= ?3`,
        ticket,
        category,
        at,
      )
      if (category === 'new')
        run('update ticket set last_new_at = max(coalesce(last_new_at, 0), ?2) where ticket = ?1', ticket, at)
    },
    /** It was moved there, or assigned while there, at that time. */
    movedTo: (ticket: Ticket, category: 'new' | 'indeterminate', at: number): void => {
      const column = { new: 'to_new_at', indeterminate: 'to_progress_at' }[category]
      run(
        `insert into ticket (ticket, ${column}) values (?1, ?2)
         on conflict (ticket) do update set ${column} = max(coalesce(${column}, 0), ?2)`,
        ticket,
        at,
      )
    },
    ended,
    noteAsked,
    /** When an action was asked for; null when that is not known. */
    askedAt: (actionId: string): number | null =>
      (get('select at from asked where action_id = ?', actionId)?.at as number | undefined) ?? null,
    /**
     * How the ticket's machine was asked to be last: there or not, running or not. `by`: by whom that counts. Null when nobody
     * asked.
     */
    wish: (ticket: Ticket, by: 'people' | 'anything'): Wish | null => {
      const row = get(
        `select * from asked where ticket = ? and person >= ? and kind in ('create','start','stop','restore','delete')
         order by at desc limit 1`,
        ticket,
        by === 'people' ? 1 : 0,
      )
      if (row === undefined) return null
      const { who } = JSON.parse(row.asked_by as string) as Action['by']
      return { who, kind: row.kind as Action['kind'], at: row.at as number }
    },

    /** The delivery that told of this change first; null when none did. */
    toldBy: (change: string): string | null =>
      (get('select delivery from change where id = ?', change)?.delivery as string | undefined) ?? null,
    noteChange: (change: string, delivery: string): void =>
      void run(
        'insert into change (id, delivery, at) values (?, ?, ?) on conflict do nothing',
        change,
        delivery,
        clock(),
      ),
    /** An event about it was decided, which found it so. */
    settleTicket: (ticket: Ticket, found: TicketFound): void =>
      void run(
        `insert into ticket (ticket, settled) values (?1, ?2) on conflict (ticket) do update set settled = ?2`,
        ticket,
        JSON.stringify({ category: found.category, assignee: found.assignee }),
      ),

    // ── What is decided again later ──
    plan: (ticket: Ticket, event: SwarmEvent, at: number): void =>
      void run(
        `insert into planned (ticket, event, at) values (?, ?, ?)
         on conflict (ticket) do update set event = excluded.event, at = excluded.at`,
        ticket,
        JSON.stringify(event),
        at,
      ),
    /** True when there was something. */
    unplan: (ticket: Ticket): boolean => run('delete from planned where ticket = ?', ticket) > 0,
    /** Epoch ms; null when nothing is planned. */
    plannedAt: (ticket: Ticket): number | null =>
      (get('select at from planned where ticket = ?', ticket)?.at as number | undefined) ?? null,
    planned: (until: number): { ticket: Ticket; event: string; at: number }[] =>
      all('select * from planned where at <= ? order by at', until).map(row => ({
        ticket: row.ticket as string,
        event: row.event as string,
        at: row.at as number,
      })),

    // ── Pull requests ──
    link: ({ repo, number, ticket, branch, state, closedAt }: PullRequestLink): void => {
      run(
        `insert into pull_request (repo, number, ticket, branch, state, closed_at) values (?, ?, ?, ?, ?, ?)
         on conflict (repo, number) do update set ticket = excluded.ticket, branch = excluded.branch,
           state = excluded.state, closed_at = excluded.closed_at`,
        repo,
        number,
        ticket,
        branch,
        state,
        closedAt,
      )
      run(
        `insert into ticket (ticket, had_pull_request) values (?, 1)
         on conflict (ticket) do update set had_pull_request = 1`,
        ticket,
      )
    },
    unlink: ({ repo, number }: PullRequestRef): void =>
      void run('delete from pull_request where repo = ? and number = ?', repo, number),
    /** An event about it was decided, which found it in this state. */
    settlePullRequest: ({ repo, number }: PullRequestRef, state: PullRequestLink['state']): void =>
      void run(
        'update pull_request set settled = ?, settled_at = ? where repo = ? and number = ?',
        state,
        clock(),
        repo,
        number,
      ),
    linkOf: ({ repo, number }: PullRequestRef): KnownPullRequest | null => {
      const row = get('select * from pull_request where repo = ? and number = ?', repo, number)
      return row === undefined ? null : linkFrom(row)
    },
    pullRequestsOf: (ticket: Ticket): KnownPullRequest[] =>
      all('select * from pull_request where ticket = ? order by repo, number', ticket).map(linkFrom),
    setInstallation: (repo: string, id: number): void =>
      void run(
        `insert into repository (repo, installation_id) values (?, ?)
         on conflict (repo) do update set installation_id = excluded.installation_id
         where installation_id is not excluded.installation_id`,
        repo,
        id,
      ),
    installationOf: (repo: string): number | null =>
      (get('select installation_id as id from repository where repo = ?', repo)?.id as number | undefined) ?? null,

    // ── How far the polls are ──
    place: <T>(what: string): T | null => json<T>(get('select value from place where what = ?', what)?.value),
    setPlace: (what: string, value: unknown): void =>
      void run(
        'insert into place (what, value) values (?, ?) on conflict (what) do update set value = excluded.value',
        what,
        JSON.stringify(value),
      ),
    /** The repositories that were looked at, by name. */
    watched: (): string[] =>
      all(
        `select distinct substr(what, instr(what, ':') + 1) as repo from place
         where what like 'github:%/%' or what like 'github-app:%/%' order by repo`,
      ).map(row => row.repo as string),
    heads: (repo: string): Map<string, string> =>
      new Map(all('select ref, sha from head where repo = ?', repo).map(row => [row.ref as string, row.sha as string])),
    setHead: (repo: string, ref: string, sha: string): void =>
      void run(
        'insert into head (repo, ref, sha) values (?, ?, ?) on conflict (repo, ref) do update set sha = excluded.sha',
        repo,
        ref,
        sha,
      ),

    // ── Repositories' own rules ──
    repositoryFile,
    /** All that are known, by name. */
    repositoryFiles: (): { repo: string; good: string | null }[] =>
      all('select repo, good from repository_file order by repo').map(row => ({
        repo: row.repo as string,
        good: row.good as string | null,
      })),
    setRepositoryFile: (repo: string, { etag, good, problems, checkedAt }: RepositoryFile): void =>
      void run(
        `insert into repository_file (repo, etag, good, problems, checked_at) values (?, ?, ?, ?, ?)
         on conflict (repo) do update set etag = excluded.etag, good = excluded.good, problems = excluded.problems,
           checked_at = excluded.checked_at`,
        repo,
        etag,
        good,
        JSON.stringify(problems),
        checkedAt,
      ),
    /** Tickets with a pull request in it. */
    ticketsOf: (repo: string): Ticket[] =>
      all('select distinct ticket from pull_request where repo = ?', repo).map(row => row.ticket as string),

    // ── Our comments ──
    isOwnComment: (repo: string, commentId: number): boolean =>
      get('select 1 as n from comment where repo = ? and comment_id = ?', repo, commentId) !== undefined,
    comment: ({ kind, repo, number, about }: OwnComment): { id: number; fingerprint: string } | null => {
      const row = get(
        'select * from comment where kind = ? and repo = ? and number = ? and about = ?',
        kind,
        repo,
        number,
        about,
      )
      return row === undefined ? null : { id: row.comment_id as number, fingerprint: row.fingerprint as string }
    },
    setComment: ({ kind, repo, number, about }: OwnComment, id: number, fingerprint: string): void =>
      void run(
        `insert into comment (kind, repo, number, about, comment_id, fingerprint) values (?, ?, ?, ?, ?, ?)
         on conflict do update set comment_id = excluded.comment_id, fingerprint = excluded.fingerprint`,
        kind,
        repo,
        number,
        about,
        id,
        fingerprint,
      ),
    forgetComment: ({ kind, repo, number, about }: OwnComment): void =>
      void run(
        'delete from comment where kind = ? and repo = ? and number = ? and about = ?',
        kind,
        repo,
        number,
        about,
      ),
    /** `begunAt` null: never tried. `done`: it is there. */
    jiraComment: (about: string): { begunAt: number | null; done: boolean } => {
      const row = get('select * from jira_comment where about = ?', about)
      return { begunAt: (row?.begun_at as number | undefined) ?? null, done: row !== undefined && row.done_at !== null }
    },
    beginJiraComment: (about: string, ticket: Ticket): void =>
      void run(
        'insert into jira_comment (about, ticket, begun_at) values (?, ?, ?) on conflict do nothing',
        about,
        ticket,
        clock(),
      ),
    endJiraComment: (about: string, id: string): void =>
      void run('update jira_comment set done_at = ?, comment_id = ? where about = ?', clock(), id, about),
    isOwnJiraComment: (id: string): boolean =>
      get('select 1 as n from jira_comment where comment_id = ?', id) !== undefined,

    /** Our answer to a comment in Jira. */
    jiraAnswer: (about: string): { id: string | null; fingerprint: string | null } | null => {
      const row = get('select * from jira_comment where about = ?', about)
      return row === undefined
        ? null
        : { id: row.comment_id as string | null, fingerprint: row.fingerprint as string | null }
    },
    setJiraAnswer: (about: string, id: string | null, fingerprint: string | null): void =>
      void run(
        'update jira_comment set comment_id = ?, fingerprint = ?, done_at = ? where about = ?',
        id,
        fingerprint,
        id === null ? null : clock(),
        about,
      ),
    jiraLink: ({ repo, number }: PullRequestRef, ticket: Ticket): string | null =>
      (get('select * from jira_link where repo = ? and number = ? and ticket = ?', repo, number, ticket)?.fingerprint as
        | string
        | undefined) ?? null,
    setJiraLink: ({ repo, number }: PullRequestRef, ticket: Ticket, fingerprint: string): void =>
      void run(
        `insert into jira_link (repo, number, ticket, fingerprint) values (?, ?, ?, ?)
         on conflict do update set fingerprint = excluded.fingerprint`,
        repo,
        number,
        ticket,
        fingerprint,
      ),

    // ── Commands and what came of them ──
    heardCommand: (
      to: ReplyTo,
      what: { actionId: string; action: Action } | { text: string; help: boolean; ok: boolean },
    ): void =>
      void run(
        `insert into command (thread, line, comment, at, action_id, action, said, ok, ended_at)
         values (?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict do nothing`,
        threadOf(to),
        to.line,
        JSON.stringify(commentOf(to)),
        clock(),
        'actionId' in what ? what.actionId : null,
        'action' in what ? JSON.stringify(what.action) : null,
        'text' in what ? JSON.stringify({ text: what.text, help: what.help }) : null,
        'ok' in what ? Number(what.ok) : null,
        'ok' in what ? clock() : null,
      ),
    endCommand: (actionId: string, outcome: Outcome): void =>
      void run(
        'update command set outcome = ?, ok = ?, ended_at = ? where action_id = ?',
        JSON.stringify(outcome),
        Number(outcome.result !== 'failed'),
        clock(),
        actionId,
      ),
    /** The commands of one comment, in their order. */
    commandsOf: (comment: CommentRef): HeardCommand[] =>
      all('select * from command where thread = ? order by line', threadOf(comment)).map(row => ({
        comment: JSON.parse(row.comment as string),
        line: row.line as number,
        at: row.at as number,
        actionId: row.action_id as string | null,
        action: json<Action>(row.action),
        said: json<HeardCommand['said']>(row.said),
        outcome: json<Outcome>(row.outcome),
        ok: row.ok === null ? null : row.ok === 1,
        endedAt: row.ended_at as number | null,
      })),
    /** Comments with a command that was heard before then and is not done, newest first, at most `limit`. */
    waitingComments: (before: number, limit: number): CommentRef[] =>
      all(
        'select comment, max(at) as heard from command where ok is null and at <= ? group by comment order by heard desc limit ?',
        before,
        limit,
      ).map(row => JSON.parse(row.comment as string)),

    // ── Who asked for what may not be ──
    allow: ({ repo, number }: PullRequestRef, commit: string): void =>
      void run(
        `insert into allowed (repo, number, commit_sha) values (?, ?, ?)
         on conflict do update set commit_sha = excluded.commit_sha`,
        repo,
        number,
        commit,
      ),
    allowed: ({ repo, number }: PullRequestRef): string | null =>
      (get('select commit_sha as sha from allowed where repo = ? and number = ?', repo, number)?.sha as
        | string
        | undefined) ?? null,
    /** `id` names the line: the same one again is none. True when it is new. */
    noteAudit: (id: string, { at, who, place, ticket, what, verdict, reason }: AuditLine): boolean => {
      const added = run(
        `insert into audit (id, at, who, place, ticket, what, verdict, reason) values (?, ?, ?, ?, ?, ?, ?, ?)
         on conflict do nothing`,
        ...[id, at, who, place, ticket, what, verdict, reason],
      )
      if (added === 1)
        run(
          `delete from audit where seq <= (select seq from audit where verdict = ?1 order by seq desc limit 1 offset ?2)
             and verdict = ?1`,
          verdict,
          AUDIT_KEPT,
        )
      return added === 1
    },
    /** Newest first, at most `limit`; `ticket` null: of all. */
    audit: (ticket: Ticket | null, limit: number): AuditLine[] =>
      all(
        `select at, who, place, ticket, what, verdict, reason from audit where ?1 is null or ticket = ?1
         order by seq desc limit ?2`,
        ticket,
        limit,
      ).map(row => ({ ...row }) as AuditLine),

    // ── Environments and runners ──
    mirrored,
    /** Tickets that have a machine, as last told. */
    withMachine: (): Ticket[] =>
      all('select ticket from environment where gone_at is null order by ticket').map(row => row.ticket as string),
    /** The ticket's environment as last told; null when there is none. */
    environment: (ticket: Ticket): Environment | null => {
      const known = mirrored(ticket)
      return known === null || known.goneAt !== null ? null : known.environment
    },
    learn,
    /**
     * An action ended, and the ticket has no environment. `deleted`: the action removed it, and was asked for then (epoch ms).
     * True when that is news.
     */
    learnGone: (ticket: Ticket, deleted: { askedAt: number } | null): boolean => {
      const news =
        run(
          'update environment set gone_at = ?, deleted = ? where ticket = ? and gone_at is null',
          clock(),
          Number(deleted !== null),
          ticket,
        ) === 1
      if (news || deleted !== null) ended(ticket, deleted?.askedAt ?? clock())
      return news
    },
    /** Takes over a heartbeat. Returns the tickets that a reader would see differently. */
    heartbeat: ({ runnerId, host, providers, environments, asked = [] }: HeartbeatRequest): Ticket[] =>
      together(() => {
        const kept = asked.flatMap(({ id, ticket, kind, by, at }) => {
          // A clock that is ahead would make every later event look old.
          const was = Math.min(Date.parse(at), clock())
          if (Number.isNaN(was)) return []
          const isNew = noteAsked(`cli:${runnerId}:${id}`, { ticket, kind, by }, { at: was, person: true })
          // What was planned before that is not done, and no longer told.
          const planned = `delete from planned where ticket = ? and json_extract(event, '$.at') < ?`
          return isNew && run(planned, ticket, was) > 0 ? [ticket] : []
        })
        const away = (get('select seen_at from runner where id = ?', runnerId)?.seen_at as number | undefined) ?? 0
        run(
          `insert into runner (id, host, providers, seen_at) values (?, ?, ?, ?)
         on conflict (id) do update set host = excluded.host, providers = excluded.providers, seen_at = excluded.seen_at`,
          runnerId,
          host,
          JSON.stringify(providers),
          clock(),
        )
        const learnt = environments.filter(one => learn(one, runnerId)).map(one => one.ticket)
        const changed = [...new Set([...kept, ...learnt])]
        const here = new Set(environments.map(one => one.ticket))
        const present = all('select ticket, missing from environment where runner_id = ? and gone_at is null', runnerId)
        for (const row of present) {
          const ticket = row.ticket as string
          if (here.has(ticket)) {
            // The comment said that the runner was away.
            if (clock() - away > RUNNER_AWAY_MS && !changed.includes(ticket)) changed.push(ticket)
          } else if (row.missing === 0) {
            // This heartbeat may have been put together before the machine was made; the next one was not.
            run('update environment set missing = 1 where ticket = ?', ticket)
          } else {
            run('update environment set gone_at = ? where ticket = ?', clock(), ticket)
            ended(ticket, clock())
            changed.push(ticket)
          }
        }
        return changed
      }),
    runners: (): KnownRunner[] =>
      all('select * from runner order by seen_at desc').map(row => ({
        id: row.id as string,
        host: row.host as string,
        seenAt: row.seen_at as number,
        connected: clock() - (row.seen_at as number) <= RUNNER_AWAY_MS,
      })),
    /** Whether the ticket's provider makes checkpoints of a running guest without stopping it. */
    takesLiveCheckpoints: (ticket: Ticket): boolean => {
      const known = mirrored(ticket)
      if (known === null || known.runnerId === null) return false
      const row = get('select providers from runner where id = ?', known.runnerId)
      const providers = json<HeartbeatRequest['providers']>(row?.providers) ?? []
      return providers.some(one => one.name === known.environment.provider && one.live)
    },
    noteOperation: (ticket: Ticket, operation: Operation): void => {
      run('insert into operation (ticket, body) values (?, ?)', ticket, JSON.stringify(operation))
      run(
        `delete from operation where ticket = ?1
           and seq not in (select seq from operation where ticket = ?1 order by seq desc limit ?2)`,
        ticket,
        OPERATIONS_KEPT,
      )
    },
    /** Newest first. */
    operations: (ticket: Ticket): Operation[] =>
      all('select body from operation where ticket = ? order by seq desc', ticket).map(row =>
        JSON.parse(row.body as string),
      ),

    /** Forgets answered commands and runners that were last heard before. */
    purge: (before: number): void => {
      run(
        `delete from comment where kind = 'reply' and (repo, about) in
        (select json_extract(comment, '$.repo'), cast(json_extract(comment, '$.commentId') as text)
         from command where at < ? and ok is not null)`,
        before,
      )
      run('delete from command where at < ? and ok is not null', before)
      run('delete from asked where at < ?', before)
      run('delete from change where at < ?', before)
      run('delete from jira_comment where done_at < ?', before)
      run('delete from runner where seen_at < ?', before)
    },
    close: () => db.close(),
  }
}
