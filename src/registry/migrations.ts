/** The registry's schema, one migration after the other. A migration that was released never changes. */

/** Operations of the CLI that say how a machine should be. A query that uses this expression uses the index of the same. */
export const BY_HAND = `result in ('done','skipped')
  and kind in ('create','start','stop','restart','restore','delete') and json_extract(asked_by, '$.via') = 'cli'`
/** What the runner reports to the bot: those, and deletes of attempts by the reconciler that rescued work. */
export const TOLD = `(${BY_HAND})
  or (kind = 'delete' and json_extract(asked_by, '$.via') = 'clock' and json_extract(outcome, '$.rescued') is not null)`
/** As it was before there was a restart. */
const BY_HAND_BEFORE = `result in ('done','skipped') and kind in ('create','start','stop','restore','delete')
  and json_extract(asked_by, '$.via') = 'cli'`

/** SQL that gives a member of a JSON column another name, where it is present. `path` leads to the object, for example `$.environment`. */
const renameMember = (table: string, column: string, path: string, from: string, to: string): string => {
  const old = `'${path}.${from}'`
  return `update ${table} set ${column} =
      json_remove(json_set(${column}, '${path}.${to}', json_extract(${column}, ${old})), ${old})
    where json_type(${column}, ${old}) is not null;`
}

/** SQL that gives a phase of the journal another name. */
const renamePhase = (from: string, to: string): string =>
  `update operation set phases = replace(phases, '"phase":"${from}"', '"phase":"${to}"');`

export const migrations = [
  `
  create table environment (
    ticket text primary key not null,
    provider text not null,
    vm_id text not null,
    base_image text not null,
    ip text,
    status text not null default 'running'
      check (status in ('creating','running','stopped','deleting','failed','lost')),
    created_at text not null default (datetime('now')),
    -- What was asked for last, and by whom (JSON of Requester).
    desired text not null default 'running' check (desired in ('running','stopped','absent')),
    desired_by text not null default '{"via":"cli","who":null}',
    ssh_host text, ssh_port integer, ssh_user text,
    -- The machine's own public host key, as one line: the only one that ssh accepts.
    host_key text,
    -- JSON of WorkAtRisk: what the last stop or delete found.
    work_at_risk text
  );
  -- A ticket stays on the provider that created it until it is deleted.
  create trigger environment_is_pinned before update of provider on environment
    when new.provider is not old.provider
    begin select raise(abort, 'a ticket stays on the provider that created it'); end;
  create table checkpoint (
    ticket text not null references environment(ticket) on delete cascade,
    name text not null,
    why text not null,
    commit_sha text,
    created_at text not null,
    with_memory integer not null,
    primary key (ticket, name)
  ) without rowid;
  -- The journal, and the audit log: intent before the first outside command, then how it ended. Rows are never removed
  -- with their environment.
  create table operation (
    id integer primary key autoincrement,
    action_id text,
    correlation text,
    ticket text not null,
    vm_id text,
    kind text not null,
    detail text,
    asked_by text not null,
    started_at text not null,
    step text,
    ended_at text,
    result text,
    outcome text
  );
  create index operation_open on operation (ticket) where ended_at is null;
  create index operation_action on operation (action_id);
  create index operation_ticket on operation (ticket, id);
  create table meta (key text primary key not null, value text not null) without rowid;
  `,
  `
  -- JSON of Requester.
  alter table environment add column created_by text not null default '{"via":"cli","who":null}';
  alter table checkpoint add column size_bytes integer;
  -- JSON of Progress[]: what the operation was at, and since when.
  alter table operation add column phases text not null default '[]';
  -- Who waits for a ticket's lock. A row whose process is gone means nothing.
  create table waiting (
    id integer primary key,
    pid integer not null,
    ticket text not null,
    kind text not null,
    asked_by text not null,
    since text not null
  );
  `,
  `
  -- The journal only grows, and this is asked with every heartbeat.
  create index operation_by_hand on operation (ticket, id, kind, asked_by, started_at) where ${BY_HAND_BEFORE};
  `,
  `
  -- A ticket's former key, after its issue was moved: it still leads to the machine.
  create table alias (
    alias text primary key not null,
    ticket text not null,
    created_at text not null default (datetime('now'))
  ) without rowid;
  -- Machines that have no ticket.
  create table machine (
    vm_id text primary key not null,
    provider text not null,
    purpose text not null check (purpose in ('base','pool')),
    created_at text not null default (datetime('now'))
  ) without rowid;
  -- The journal, again: an operation on a machine without a ticket has none either.
  create table new_operation (
    id integer primary key autoincrement,
    action_id text,
    correlation text,
    ticket text,
    vm_id text,
    kind text not null,
    -- JSON of OperationDetail.
    detail text,
    -- JSON of Requester.
    asked_by text not null,
    started_at text not null,
    -- JSON of Progress[], oldest first.
    phases text not null default '[]',
    ended_at text,
    result text,
    -- JSON of Outcome.
    outcome text
  );
  insert into new_operation
    select id, action_id, correlation, ticket, vm_id, kind, detail, asked_by, started_at, phases, ended_at, result, outcome
    from operation;
  drop table operation;
  alter table new_operation rename to operation;
  create index operation_open on operation (ticket) where ended_at is null;
  create index operation_action on operation (action_id);
  create index operation_ticket on operation (ticket, id);
  create index operation_by_hand on operation (ticket, id, kind, asked_by, started_at) where ${BY_HAND_BEFORE};
  -- Snapshots that somebody made beside us, with names that no checkpoint can have.
  delete from checkpoint where name glob '*[^a-z0-9-]*' or name glob '-*' or length(name) not between 1 and 41;
  -- Members of the stored JSON that have another name now.
  ${renameMember('environment', 'work_at_risk', '$', 'because', 'reason')}
  ${renameMember('operation', 'detail', '$', 'kept', 'rescued')}
  ${renameMember('operation', 'outcome', '$', 'said', 'summary')}
  ${renameMember('operation', 'outcome', '$', 'because', 'reason')}
  ${renameMember('operation', 'outcome', '$', 'kept', 'rescued')}
  ${renameMember('operation', 'outcome', '$.environment.workAtRisk', 'because', 'reason')}
  ${renameMember('operation', 'outcome', '$.environment', 'workAtRisk', 'unsavedWork')}
  update operation set outcome = json_set(outcome, '$.failure.kind', 'unsaved-work')
    where json_extract(outcome, '$.failure.kind') = 'work-at-risk';
  ${renamePhase('looking for work at risk', 'looking for unsaved work')}
  ${renamePhase('saving work', 'saving unsaved work')}
  ${renamePhase('proving it', 'checking the saved work')}
  `,
  // A restart is a change by hand, too.
  `
  drop index operation_by_hand;
  create index operation_by_hand on operation (ticket, id, kind, asked_by, started_at) where ${BY_HAND};
  `,
  // What a machine works on, and the agent in it.
  `
  create table project (
    ticket text primary key not null references environment (ticket) on delete cascade,
    repo text not null,
    branch text,
    summary text,
    path text not null,
    -- JSON: numbers, texts, and ProjectStep or null.
    ports text not null,
    save text not null,
    setup text,
    start text,
    problem text
  ) without rowid;
  create table push (
    id integer primary key autoincrement,
    ticket text not null references environment (ticket) on delete cascade,
    repo text not null,
    branch text not null,
    commit_id text not null,
    by_agent integer not null,
    at text not null
  );
  create index push_ticket on push (ticket, id);
  -- What a machine pushed itself, it may drop again.
  create table pushed_commit (
    ticket text not null references environment (ticket) on delete cascade,
    repo text not null,
    commit_id text not null,
    primary key (ticket, repo, commit_id)
  ) without rowid;
  create table note (
    ticket text primary key not null references environment (ticket) on delete cascade,
    text text not null,
    at text not null
  ) without rowid;
  create table agent (
    ticket text primary key not null references environment (ticket) on delete cascade,
    -- JSON of AgentReport and of Task.
    report text not null,
    task text not null,
    session text,
    worked_ms integer not null,
    -- JSON of AgentProgress: what the runner must remember of the present run.
    progress text not null
  ) without rowid;
  create table agent_message (
    id integer primary key autoincrement,
    ticket text not null references environment (ticket) on delete cascade,
    text text not null,
    -- JSON of Requester.
    asked_by text not null,
    at text not null,
    round integer,
    -- The run that has it; null while it waits.
    run text
  );
  create index agent_message_ticket on agent_message (ticket, id);
  `,
  // What is asked often is found by an index, and so is what is old.
  `
  create index environment_machine on environment (vm_id);
  create index alias_ticket on alias (ticket);
  create index operation_newest_by_hand on operation (id) where ${BY_HAND};
  create index operation_ended on operation (ended_at) where ended_at is not null;
  `,
  // Whose a disk is that no machine has.
  'create index operation_machine on operation (vm_id) where vm_id is not null',
  // A machine may be there for a selftest.
  `
  create table new_machine (
    vm_id text primary key not null,
    provider text not null,
    purpose text not null check (purpose in ('base','pool','selftest')),
    created_at text not null default (datetime('now'))
  ) without rowid;
  insert into new_machine select vm_id, provider, purpose, created_at from machine;
  drop table machine;
  alter table new_machine rename to machine;
  `,
  // What a command waits for; null: another one on its ticket.
  'alter table waiting add column why text',
  // Machines that nobody uses.
  `
  create table idleness (
    ticket text primary key not null references environment (ticket) on delete cascade,
    -- Milliseconds that it was seen idle, in one piece.
    idle_ms integer not null,
    -- The newest operation on it when that began.
    operation integer not null,
    -- JSON of IdleReport, once it was warned.
    report text,
    -- JSON of SshAddress: that of a machine whose memory is saved.
    ssh text
  ) without rowid;
  `,
  // Attempts, whose key is DROP-1~2.
  `
  -- The environment that it was forked from, and the checkpoint; null: as that one was at the moment.
  alter table environment add column attempt_of text;
  alter table environment add column forked_from text;
  -- Another attempt was promoted: it goes, by the rules of a delete.
  alter table environment add column dismissed integer not null default 0;
  `,
  // Machines that are kept ready for creates.
  `
  alter table machine add column pool text;
  alter table machine add column state text check (state in ('filling','template','ready','leaving','claimed'));
  alter table machine add column since text;
  alter table machine add column hold text check (hold in ('memory','disk'));
  -- JSON of MadeOf.
  alter table machine add column made_of text;
  alter table machine add column path text;
  alter table machine add column machine_id text;
  -- What the last look at each pool found.
  create table pool (name text primary key not null, made_of text, problem text, at text not null) without rowid;
  `,
  // The last number of an attempt that is not there any more: none is given twice, since its branch may be left.
  `
  create table attempt_number (ticket text primary key not null, last integer not null) without rowid;
  insert into attempt_number
    select substr(value, 1, instr(value, '~') - 1), max(cast(substr(value, instr(value, '~') + 1) as integer))
    from operation, json_each(detail, '$.attempts') where result = 'done' group by 1;
  `,
  `
  drop index operation_newest_by_hand;
  create index operation_newest_told on operation (id) where ${TOLD};
  `,
  // What the agents of a ticket have used, those of its attempts too, also of machines that are gone. Each attempt's row repeats what
  // its source had used, so the largest of them is what is known of before.
  `
  create table agent_use (ticket text primary key not null, tokens integer not null, usd real not null) without rowid;
  insert into agent_use
    select substr(ticket, 1, instr(ticket || '~', '~') - 1), max(report ->> '$.tokens'), max(coalesce(report ->> '$.usd', 0))
    from agent group by 1;
  `,
  // Claims of a pool's machines that failed, one after the other, and when the last one did.
  `
  alter table pool add column failed_claims integer not null default 0;
  alter table pool add column failed_at text;
  `,
  // The order in which checkpoints were made. Their times are those of a clock that is set.
  `
  alter table checkpoint add column place integer not null default 0;
  `,
  // Whether a create got as far as the setup of the project. Of those that failed before, nobody knows what they reached but by this.
  `
  alter table project add column prepared integer not null default 1;
  update project set prepared = 0 where problem is not null and branch is null and setup is null;
  `,
] as const
