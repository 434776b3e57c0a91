/** The migrations of `memory.db`, which earlier versions had beside `bot.db`. */
export const formerMigrations: readonly string[] = [
  `
  create table ticket (
    ticket text primary key not null,
    category text,
    category_at integer,
    last_new_at integer,
    ended_at integer,
    had_pull_request integer not null default 0
  ) strict, without rowid;
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
  create table comment (
    kind text not null check (kind in ('status','reply')),
    repo text not null,
    number integer not null,
    about text not null,
    comment_id integer not null,
    fingerprint text not null,
    primary key (kind, repo, number, about)
  ) strict, without rowid;
  create table jira_comment (
    about text primary key not null,
    ticket text not null,
    begun_at integer not null,
    done_at integer
  ) strict, without rowid;
  create table command (
    repo text not null,
    comment_id integer not null,
    line integer not null,
    number integer not null,
    at integer not null,
    action_id text,
    action text,
    said text,
    outcome text,
    ok integer,
    primary key (repo, comment_id, line)
  ) strict, without rowid;
  create index command_action on command (action_id);
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
  create table operation (
    ticket text primary key not null,
    action text not null,
    outcome text not null,
    at integer not null
  ) strict, without rowid;
  `,
  `
  create table planned (
    ticket text primary key not null,
    event text not null,
    at integer not null
  ) strict, without rowid;
  `,
  `
  alter table pull_request add column settled text;
  alter table pull_request add column settled_at integer;
  alter table asked add column person integer not null default 0;
  create index asked_ticket on asked (ticket, at);
  create table place (what text primary key not null, value text not null) strict, without rowid;
  create table head (
    repo text not null,
    ref text not null,
    sha text not null,
    primary key (repo, ref)
  ) strict, without rowid;
  `,
  `
  create table change (
    id text primary key not null,
    delivery text not null,
    at integer not null
  ) strict, without rowid;
  alter table ticket add column settled text;
  `,
  `
  alter table command rename to command_before;
  create table command (
    thread text not null,
    line integer not null,
    comment text not null,
    at integer not null,
    action_id text,
    action text,
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
  drop table operation;
  create table operation (
    seq integer primary key autoincrement,
    ticket text not null,
    body text not null
  ) strict;
  create index operation_ticket on operation (ticket, seq);
  alter table jira_comment add column comment_id text;
  alter table jira_comment add column fingerprint text;
  create table jira_link (
    repo text not null,
    number integer not null,
    ticket text not null,
    fingerprint text not null,
    primary key (repo, number, ticket)
  ) strict, without rowid;
  create table allowed (
    repo text not null,
    number integer not null,
    commit_sha text not null,
    primary key (repo, number)
  ) strict, without rowid;
  create table audit (
    seq integer primary key autoincrement,
    id text unique not null,
    at integer not null,
    who text not null,
    what text not null,
    place text not null,
    reason text not null
  ) strict;
  `,
  `
  create table repository_file (
    repo text primary key not null,
    etag text,
    good text,
    problems text not null,
    checked_at integer not null
  ) strict, without rowid;
  `,
  `
  alter table audit add column verdict text not null default 'refused' check (verdict in ('allowed','refused'));
  alter table audit add column ticket text;
  create index audit_ticket on audit (ticket, seq);
  `,
  `
  alter table ticket add column to_new_at integer;
  alter table ticket add column to_progress_at integer;
  alter table pull_request add column closed_at integer;
  `,
  `
  create table repository_name (id integer primary key not null, repo text unique not null) strict;
  `,
]
