/** The tables of `bot.db`, migration by migration. Files on disk hold them: only add to the end. */
import type { Migration } from '../../sqlite.ts'
import { translateQueue } from './translate.ts'

const queue = `
  create table delivery (
    seq integer primary key autoincrement,
    source text not null,
    id text not null,
    event text not null,
    lane text not null,
    -- Gone once it has taken effect: what is kept then is that it came, and what it became.
    body text,
    received_at integer not null,
    attempt integer not null default 0,
    not_before integer not null default 0,
    verdict text,
    reason text,
    settled_at integer,
    unique (source, id)
  ) strict;
  create index delivery_lane on delivery (lane, seq) where verdict is null;
  create table action (
    seq integer primary key autoincrement,
    id text unique not null,
    correlation text not null,
    ticket text not null,
    kind text not null,
    payload text not null,
    state text not null default 'pending' check (state in ('pending','active','done','dead','cancelled')),
    attempt integer not null default 0,
    not_before integer not null default 0,
    runner_id text,
    lease_token text,
    lease_until integer,
    progress text,
    outcome text,
    created_at integer not null,
    ended_at integer
  ) strict;
  create index action_head on action (ticket, seq) where state in ('pending','active');
  create table pin (ticket text primary key not null, runner_id text not null) strict, without rowid;
  create table outbox (
    seq integer primary key autoincrement,
    key text not null,
    body text not null,
    attempt integer not null default 0,
    not_before integer not null default 0,
    reason text
  ) strict;
  create index outbox_key on outbox (key, seq);
  `

/** What `memory.db` held before, and the record of requests. */
const knowledge = `
  -- Changes each time when a newer message takes the place of this one.
  alter table outbox add column version integer not null default 1;
  -- JSON of a create's MachineSpec; null for other kinds.
  alter table action add column machine text;
  update action set machine = coalesce(payload ->> '$.machine', '{}') where kind = 'create';
  create index action_ticket on action (ticket, seq);
  create index action_state on action (state, seq);
  create index action_machine on action (machine) where state = 'pending' and machine is not null;

  create table meta (name text primary key not null, value text not null) strict, without rowid;

  create table request (
    seq integer primary key autoincrement,
    id text unique not null,
    -- Time of the triggering event, and when it was recorded.
    at integer not null,
    recorded_at integer not null,
    -- JSON of Requester.
    by text not null,
    person integer not null,
    place text not null,
    -- The command's comment: as threadOf names it, and as JSON of CommentRef.
    thread text,
    line integer,
    comment text,
    ticket text,
    what text not null,
    -- The action's kind, and JSON of Action.
    kind text,
    action text,
    verdict text not null check (verdict in ('allowed','refused','answered')),
    reason text,
    answer text,
    ended_at integer,
    ok integer,
    outcome text,
    -- Whether the ticket's history and the audit log show it.
    history integer not null default 0,
    audit integer not null default 0
  ) strict;
  create index request_ticket on request (ticket, at) where kind is not null;
  create unique index request_thread on request (thread, line) where thread is not null;
  create index request_unfinished on request (recorded_at) where thread is not null and ended_at is null;
  create index request_history on request (ticket, ended_at) where history = 1;
  create index request_audit on request (verdict, seq) where audit = 1;
  create index request_audit_ticket on request (ticket, seq) where audit = 1;

  create table ticket (
    ticket text primary key not null,
    category text,
    category_at integer,
    -- When it was last in category "new".
    last_new_at integer,
    -- When its last environment was deleted or its last pull request merged.
    ended_at integer,
    had_pull_request integer not null default 0,
    -- JSON of TicketState, as the last decided event found it.
    decided text,
    -- When it was last moved there (not: seen there), by the sender's clock.
    to_new_at integer,
    to_progress_at integer
  ) strict, without rowid;
  -- Former keys of moved issues.
  create table ticket_alias (alias text primary key not null, ticket text not null) strict, without rowid;
  create index ticket_alias_ticket on ticket_alias (ticket);
  -- The delivery that first reported a change in Jira.
  create table reported_change (
    id text primary key not null,
    delivery text not null,
    at integer not null
  ) strict, without rowid;
  create table scheduled (
    ticket text primary key not null,
    at integer not null,
    source text not null,
    id text not null,
    event text not null,
    lane text not null,
    body text not null
  ) strict, without rowid;

  create table pull_request (
    repo text not null,
    number integer not null,
    ticket text not null,
    branch text not null,
    state text not null check (state in ('open','closed','merged')),
    closed_at integer,
    -- As the last decided event found it.
    decided text,
    decided_at integer,
    primary key (repo, number)
  ) strict, without rowid;
  create index pull_request_ticket on pull_request (ticket);
  create table allowed_commit (
    repo text not null,
    number integer not null,
    commit_id text not null,
    primary key (repo, number)
  ) strict, without rowid;

  -- GitHub's number of a repository, which stays when its name changes.
  create table repository_name (id integer primary key not null, repo text unique not null) strict;
  create table installation (repo text primary key not null, id integer not null) strict, without rowid;
  create table repository_file (
    repo text primary key not null,
    etag text,
    good text,
    -- JSON of string[].
    problems text not null,
    checked_at integer not null
  ) strict, without rowid;
  create table head (
    repo text not null,
    ref text not null,
    commit_id text not null,
    primary key (repo, ref)
  ) strict, without rowid;
  create table cursor (name text primary key not null, value text not null) strict, without rowid;

  -- Comments and links of ours. place: the repository on GitHub, the ticket in Jira. number: 0 in Jira.
  create table own_comment (
    side text not null check (side in ('github','jira')),
    kind text not null check (kind in ('status','reply','note','link')),
    place text not null,
    number integer not null,
    about text not null,
    begun_at integer not null,
    -- When it was last written.
    set_at integer,
    id text,
    fingerprint text,
    primary key (side, kind, place, number, about)
  ) strict, without rowid;
  create index own_comment_id on own_comment (side, id) where id is not null;

  create table environment (
    ticket text primary key not null,
    vm_id text not null,
    runner_id text,
    -- JSON of Environment.
    body text not null,
    heard_at integer not null,
    -- Whether its runner's last heartbeat lacked it.
    missing integer not null default 0,
    gone_at integer
  ) strict, without rowid;
  create index environment_runner on environment (runner_id) where gone_at is null;
  -- A machine's identity is never used again: a heartbeat that reports one of these is late.
  create table deleted_machine (vm_id text primary key not null, at integer not null) strict, without rowid;
  create table runner (
    id text primary key not null,
    host text not null,
    seen_at integer not null,
    -- JSON of Offer; null until a runner of this version is heard.
    offer text
  ) strict, without rowid;
  `

export const migrations: readonly Migration[] = [
  queue,
  `
  -- When it became due: with its arrival, or with a replay.
  alter table delivery add column since integer;
  create index action_correlation on action (correlation);
  `,
  'alter table outbox add column correlation text',
  // When it was put first: a message that takes its place is as old.
  'alter table outbox add column created_at integer',
  db => {
    translateQueue(db)
    db.exec(knowledge)
  },
  `
  -- Names that repositories had before.
  create table repository_former (former text primary key not null, repo text not null) strict, without rowid;
  create index repository_former_repo on repository_former (repo);
  `,
  `
  -- Runners' tokens. name: empty for the token that AGENT_SWARM_RUNNER_TOKEN holds. hash: SHA-256, in hex.
  create table runner_token (
    name text primary key not null,
    hash text unique not null,
    runner_id text not null,
    -- The installation that showed it first; null until one did.
    instance text,
    created_at integer not null
  ) strict, without rowid;
  -- Whether the bot gave the runner an action of the ticket. What was pinned before this was known counts as given.
  alter table pin add column given integer not null default 0;
  update pin set given = 1;
  create index pin_brought on pin (runner_id) where given = 0;
  `,
  // Whether it was ready for review when an event was last decided while it was open.
  'alter table pull_request add column ready integer',
  `
  -- What was queued in a backup that took the store's place: nothing of it is carried out by itself.
  create table held (
    seq integer primary key autoincrement,
    kind text not null check (kind in ('action','message')),
    -- The action's id, or the message's key.
    name text not null,
    correlation text,
    -- JSON of Action, or of MessageBody.
    body text not null,
    created_at integer,
    held_at integer not null
  ) strict;
  `,
  `
  -- Actions that ended, so that what is asked all the time reads those alone that have not.
  create table ended_action (
    seq integer primary key not null,
    id text unique not null,
    correlation text not null,
    ticket text not null,
    kind text not null,
    payload text not null,
    state text not null check (state in ('done','dead','cancelled')),
    attempt integer not null,
    not_before integer not null,
    runner_id text,
    outcome text,
    created_at integer not null,
    ended_at integer not null
  ) strict;
  insert into ended_action
    select seq, id, correlation, ticket, kind, payload, state, attempt, not_before, runner_id, outcome, created_at,
      coalesce(ended_at, created_at)
    from action where state not in ('pending','active');
  delete from action where state not in ('pending','active');
  alter table action drop column outcome;
  alter table action drop column ended_at;
  create index ended_action_ticket on ended_action (ticket, kind, seq);
  create index ended_action_correlation on ended_action (correlation);
  create index ended_action_at on ended_action (ended_at);
  -- lane: jira, or github with an installation and a repository (github:7:acme/shop). urgency: 0 answers a person, 1 is everything else.
  alter table outbox add column lane text not null default 'github::';
  alter table outbox add column urgency integer not null default 1;
  update outbox set lane = 'jira' where key like 'jira%' or key like 'reply:jira:%' or key like 'move-ticket:%';
  update outbox set urgency = 0 where body ->> '$.kind' in ('reaction','reply','jira-note','jira-waiting');
  create index outbox_due on outbox (lane, urgency, not_before, seq);
  create index outbox_wait on outbox (not_before);
  create index outbox_age on outbox (created_at);
  -- What purge looks for.
  create index delivery_settled on delivery (settled_at) where settled_at is not null;
  create index delivery_payload on delivery (seq, octet_length(body)) where verdict is not null and body is not null;
  create index request_ended on request (ended_at) where audit = 0;
  create index request_answered on request (ended_at) where thread is not null;
  create index reported_change_at on reported_change (at);
  create index deleted_machine_at on deleted_machine (at);
  create index environment_gone on environment (gone_at) where gone_at is not null;
  create index scheduled_at on scheduled (at);
  create index held_at on held (held_at);
  -- All requests of a ticket, and its last state change.
  drop index request_ticket;
  create index request_ticket on request (ticket, at);
  create index request_state_change on request (ticket, person, at)
    where kind in ('create', 'start', 'stop', 'restart', 'restore', 'delete');
  create index request_audited on request (seq) where audit = 1;
  create index own_comment_set on own_comment (set_at) where set_at is not null;
  create index own_comment_status on own_comment (about) where kind = 'status';
  create index own_comment_link on own_comment (about) where kind = 'link';
  `,
  `
  -- Runners that are gone for good: without a token made since, they do not come back.
  create table forgotten_runner (id text primary key not null, at integer not null) strict, without rowid;
  `,
  // JSON of MachineSize: the room that its runner did not have for it.
  'alter table action add column needs text',
]
