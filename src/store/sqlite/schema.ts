/** The tables of `memory.db`, migration by migration. Files on disk hold them: only add to the end. */
export const migrations = [
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
  `
  -- GitHub's own number of a repository, which stays when its name does not.
  create table repository_name (id integer primary key not null, repo text unique not null) strict;
  `,
]
