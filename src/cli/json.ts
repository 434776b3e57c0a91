/**
 * What each command prints with `--json`. The code that prints takes its types from here, and docs/json and docs/cli.md are
 * made of it, so that neither can part from the other. Nothing of it is loaded when a command runs.
 */
import * as v from 'valibot'
import type { BaseManifest, SshInfo, VmUsage } from '../../providers/provider.ts'
import type { Check } from '../bot/check.ts'
import type { Shown } from '../bot/dry-run.ts'
import { failureKinds } from '../errors.ts'
import type { OperationRow } from '../registry/registry.ts'
import type { Rescued } from '../runner/rescue/rescue.ts'
import type { RunningOperation, WaitingAction } from '../runner/standing.ts'
import type { Action, Progress, ReplyTo, Requester } from '../schema/action.ts'
import type { Checkpoint, Environment, UnsavedWork } from '../schema/environment.ts'
import type { Failure } from '../schema/failure.ts'
import type { Outcome } from '../schema/outcome.ts'

const said = <const Form extends v.GenericSchema>(form: Form, says: string) => v.pipe(form, v.description(says))
const text = v.string()
const yes = v.boolean()
const whole = v.pipe(v.number(), v.integer(), v.minValue(0))
const some = v.pipe(v.number(), v.minValue(0))
const time = v.pipe(v.string(), v.regex(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/), v.title('time'))

// ── Words that many share ──

const ticket = v.pipe(v.string(), v.regex(/^[A-Z][A-Z0-9_]{1,9}-[1-9][0-9]{0,6}$/), v.title('ticket'))
const provider = v.picklist(['kvm', 'tart', 'hyperv', 'aws', 'synthetic'])
const status = v.picklist(['creating', 'running', 'stopped', 'deleting', 'failed', 'lost'])
const kind = v.picklist(['create', 'start', 'stop', 'checkpoint', 'restore', 'delete-checkpoint', 'delete', 'status'])
const vmId = said(text, "The machine's name at its hypervisor.")

const failure = v.strictObject({
  kind: said(v.picklist(failureKinds), 'What a program decides by.'),
  message: said(text, 'What was being done, and what went wrong.'),
  remedy: said(v.nullable(text), 'What can be done about it.'),
}) satisfies v.GenericSchema<Failure>

const requester = v.strictObject({
  via: v.picklist(['github', 'jira', 'cli', 'clock']),
  who: said(v.nullable(text), 'A login, an account or a user; null where that is not known.'),
}) satisfies v.GenericSchema<Requester>

const sshInfo = v.strictObject({ host: text, port: whole, user: text }) satisfies v.GenericSchema<SshInfo>

const progress = v.strictObject({
  phase: said(text, 'What it is at.'),
  at: said(time, 'Since when.'),
}) satisfies v.GenericSchema<Progress>

const checkpoint = v.strictObject({
  name: text,
  why: said(v.picklist(['push', 'command', 'before restore']), 'What it was made for.'),
  commit: said(v.nullable(text), 'The commit that was pushed.'),
  createdAt: time,
  withMemory: said(yes, 'Whether a restore goes on where the machine was, and not with a boot.'),
  sizeBytes: said(v.nullable(whole), "What it added on the host's disk; null where that was not seen."),
}) satisfies v.GenericSchema<Checkpoint>

const workAtRisk = v.variant('known', [
  v.strictObject({
    known: v.literal(true),
    repositories: v.array(
      v.strictObject({ path: text, uncommitted: whole, untracked: whole, stashes: whole, unpushed: whole }),
    ),
  }),
  v.strictObject({ known: v.literal(false), because: said(text, 'Why the machine could not be asked.') }),
]) satisfies v.GenericSchema<UnsavedWork>

const usage = v.strictObject({
  diskBytes: said(whole, 'On the host, with its checkpoints.'),
  cpus: whole,
  memoryBytes: said(whole, 'What it may have.'),
  memoryUsedBytes: said(v.nullable(whole), 'What the host gives it now.'),
  cpuSeconds: said(v.nullable(some), 'Processor time since its start.'),
}) satisfies v.GenericSchema<VmUsage>

const known = { ticket, provider, vmId, ip: v.nullable(text), status, baseImage: text, createdAt: time }
const environmentForm = {
  ...known,
  createdBy: requester,
  ssh: v.nullable(sshInfo),
  checkpoints: v.array(checkpoint),
  workAtRisk: v.nullable(workAtRisk),
  observedAt: said(time, 'When its hypervisor was asked.'),
}
const environment = v.strictObject(environmentForm) satisfies v.GenericSchema<Environment>

const outcomeForms = {
  done: {
    result: v.literal('done'),
    said: said(text, 'What came of it, as a sentence.'),
    environment: v.nullable(environment),
    seconds: said(some, 'How long it took.'),
    kept: said(v.optional(text), 'Of a delete: the work that was saved before it, and where.'),
  },
  skipped: {
    result: v.literal('skipped'),
    because: said(text, 'Why there was nothing to do.'),
    environment: v.nullable(environment),
  },
  failed: { result: v.literal('failed'), failure, environment: v.nullable(environment) },
}
const outcome = v.variant('result', [
  v.strictObject(outcomeForms.done),
  v.strictObject(outcomeForms.skipped),
  v.strictObject(outcomeForms.failed),
]) satisfies v.GenericSchema<Outcome>

/** What a command prints that changes one environment. */
const change = v.variant('result', [
  v.strictObject({ ticket, ...outcomeForms.done }),
  v.strictObject({
    ticket,
    ...outcomeForms.skipped,
    environment: said(v.optional(outcomeForms.skipped.environment), 'Missing with --dry-run and --detach.'),
  }),
  v.strictObject({ ticket, ...outcomeForms.failed }),
  v.strictObject({
    ticket,
    result: said(v.literal('planned'), 'With --dry-run.'),
    would: said(v.array(text), 'What would be done, step by step.'),
  }),
  v.strictObject({
    ticket,
    result: said(v.literal('detached'), 'With --detach.'),
    kind,
    pid: said(whole, 'The process that does it.'),
    log: said(text, 'The file that has what it says.'),
  }),
])

const operation = v.strictObject({
  id: whole,
  actionId: said(v.nullable(text), "Of the bot's queue; null for a command."),
  ticket,
  vmId: v.nullable(vmId),
  kind,
  detail: v.nullable(
    v.strictObject({
      name: said(v.optional(text), 'Of the checkpoint.'),
      keptAs: said(v.optional(text), 'The checkpoint that a restore made first.'),
      force: v.optional(yes),
      kept: said(v.optional(text), 'What a delete saved, and where.'),
      reached: said(
        v.optional(v.picklist(['decided', 'restored'])),
        'How far a delete or a restore came: what it does not ask, or do, once more.',
      ),
    }),
  ),
  by: requester,
  startedAt: time,
  phases: said(v.array(progress), 'Oldest first.'),
  endedAt: v.nullable(time),
  result: said(v.nullable(v.picklist(['done', 'skipped', 'failed', 'interrupted'])), 'Null while it is under way.'),
  outcome: v.nullable(outcome),
}) satisfies v.GenericSchema<OperationRow>

const underWay = v.strictObject({
  ticket,
  kind: text,
  by: requester,
  startedAt: time,
  phase: v.nullable(progress),
  interrupted: said(yes, 'Its process died in it: the next command on the ticket, or the runner, settles it.'),
}) satisfies v.GenericSchema<RunningOperation>
const waiting = v.strictObject({
  ticket,
  kind: text,
  by: requester,
  since: time,
  why: text,
}) satisfies v.GenericSchema<WaitingAction>

const delivery = v.strictObject({
  source: v.picklist(['github', 'jira', 'clock']),
  id: text,
  event: text,
  about: said(
    v.nullable(text),
    'The ticket, the pull request or the branch, as DROP-1, acme/shop#7 or acme/shop a-branch.',
  ),
  receivedAt: time,
  verdict: v.picklist(['actions', 'ignored', 'refused', 'failed', 'waiting']),
  reason: said(v.nullable(text), 'Of the verdict; of one that waits, why it could not be decided.'),
  attempt: said(whole, 'How often it could not be decided.'),
  dueAt: said(v.nullable(time), 'When one that waits is decided next.'),
  settledAt: v.nullable(time),
  actions: said(
    v.array(
      v.strictObject({
        kind,
        ticket,
        state: v.picklist(['pending', 'active', 'done', 'dead', 'cancelled']),
        result: v.nullable(v.picklist(['done', 'skipped', 'failed'])),
        because: said(v.nullable(text), 'Why it was skipped, or failed.'),
      }),
    ),
    'What it became.',
  ),
})

const judged = v.strictObject({
  at: time,
  who: said(text, 'The GitHub login or the Jira account.'),
  place: said(text, 'The pull request or the ticket with the comment.'),
  ticket: said(v.nullable(ticket), 'Null where nothing says which.'),
  what: said(text, 'The command, or all of a comment that is not heard.'),
  verdict: v.picklist(['allowed', 'refused']),
  reason: text,
})

const replyTo = v.union([
  v.strictObject({ repo: text, number: whole, commentId: whole, line: whole }),
  v.strictObject({ ticket, commentId: text, line: whole }),
]) satisfies v.GenericSchema<ReplyTo>
const asked = {
  ticket,
  by: requester,
  replyTo: said(v.nullable(replyTo), 'The comment that is answered, and which command of it.'),
  onlyAt: said(v.optional(text), 'A commit: done only while the pull request from a fork has it as its head.'),
  at: said(v.optional(time), 'When that happened which asks for it: what somebody did by hand after that holds.'),
}
const name = v.nullable(text)
const action = v.variant('kind', [
  v.strictObject({
    kind: v.literal('create'),
    ...asked,
    machine: v.optional(
      v.strictObject({
        baseImage: v.optional(text),
        cpus: v.optional(whole),
        memoryMiB: v.optional(whole),
        diskGiB: v.optional(whole),
      }),
    ),
  }),
  v.strictObject({ kind: v.literal('start'), ...asked }),
  v.strictObject({ kind: v.literal('stop'), ...asked }),
  v.strictObject({
    kind: v.literal('checkpoint'),
    ...asked,
    name,
    why: v.picklist(['push', 'command']),
    commit: v.nullable(text),
    keep: v.optional(v.strictObject({ newest: whole, days: v.nullable(some) })),
  }),
  v.strictObject({ kind: v.literal('restore'), ...asked, name }),
  v.strictObject({ kind: v.literal('delete-checkpoint'), ...asked, name: text }),
  v.strictObject({ kind: v.literal('delete'), ...asked, force: yes }),
  v.strictObject({ kind: v.literal('status'), ...asked, about: v.optional(v.picklist(['checkpoints', 'ssh'])) }),
]) satisfies v.GenericSchema<Action>

const rescued = v.strictObject({
  ticket,
  savedAt: time,
  folder: said(text, 'It holds the bundles, and in rescued.json how to get the work back.'),
  bytes: said(v.nullable(whole), 'Of all its bundles; null where rescued.json cannot be read.'),
  repositories: said(v.nullable(v.array(text)), 'Their paths in the machine that was deleted.'),
}) satisfies v.GenericSchema<Rescued>

/** Of a dry run of the bot: a line each. */
const shown = v.variant('what', [
  v.strictObject({
    what: v.literal('delivery'),
    source: delivery.entries.source,
    event: text,
    id: text,
    verdict: v.picklist(['actions', 'ignored', 'refused', 'failed']),
    reason: v.nullable(text),
    actions: said(v.array(v.strictObject({ id: text, correlation: text, action })), 'What would be queued.'),
  }),
  v.strictObject({
    what: said(v.literal('request'), 'What would be written.'),
    to: v.picklist(['GitHub', 'Jira']),
    method: text,
    path: text,
    body: v.unknown(),
  }),
]) satisfies v.GenericSchema<Shown>

/** Forms that are described once, by the names that they have in the documentation. */
export const forms = {
  Failure: failure,
  Requester: requester,
  Ssh: sshInfo,
  Progress: progress,
  Checkpoint: checkpoint,
  WorkAtRisk: workAtRisk,
  Usage: usage,
  Environment: environment,
  Outcome: outcome,
  Change: change,
  Operation: operation,
  UnderWay: underWay,
  Waiting: waiting,
  Rescued: rescued,
  Delivery: delivery,
  Action: action,
  Shown: shown,
}

// ── The commands ──

const hosts = v.array(
  v.strictObject({
    ticket,
    names: said(v.array(text), 'What it is called with, for ssh; empty where it is no host.'),
    options: said(v.nullable(v.record(text, text)), 'Of ssh_config.'),
    because: said(v.nullable(text), 'Why it is no host.'),
  }),
)
const installed = v.strictObject({
  result: said(v.picklist(['done', 'planned', 'skipped']), 'With --install and --uninstall.'),
  steps: v.array(text),
  text: said(v.optional(v.nullable(text)), 'With --dry-run: what the file would hold.'),
})

const ofHost = { total: whole, available: whole }
const hostStatus = v.strictObject({
  host: said(text, 'Without a ticket: of this machine.'),
  load: some,
  cpus: v.strictObject({ total: whole, allocated: said(whole, 'To machines that run.') }),
  memoryBytes: v.strictObject({ ...ofHost, allocated: whole, used: said(whole, 'What machines really take.') }),
  diskBytes: v.strictObject({ ...ofHost, used: whole }),
  fits: said(
    v.strictObject({
      environments: whole,
      endsFirst: v.picklist(['memory', 'disk']),
      size: v.strictObject({ cpus: whole, memoryMiB: whole, diskGiB: whole }),
    }),
    'How many more of this size would fit, and what ends first.',
  ),
  environments: v.array(
    v.strictObject({
      ticket,
      provider,
      vmId,
      status,
      usage: v.nullable(usage),
      cpusBusy: said(v.nullable(some), 'Processors in use, 1.5 for one and a half.'),
    }),
  ),
  underWay: v.array(underWay),
  waiting: v.array(waiting),
  rescued: said(v.array(rescued), 'Work that was saved before its machine was deleted, newest first, at most 200.'),
  unread: said(
    v.array(v.strictObject({ provider, message: text })),
    'Hypervisors that could not be asked: theirs is as it was known last.',
  ),
})
const ticketStatus = v.strictObject({
  ticket: said(ticket, 'With a ticket as argument.'),
  environment: v.nullable(v.strictObject({ ...environmentForm, usage: v.nullable(usage) })),
  desired: said(v.nullable(v.picklist(['running', 'stopped', 'absent'])), 'What was asked for last.'),
  desiredBy: v.nullable(requester),
  underWay: v.array(underWay),
  waiting: v.array(waiting),
  rescued: said(v.array(rescued), 'Work of this ticket that was saved before its machine was deleted, newest first.'),
  operations: said(v.array(operation), 'What was done to it, newest first.'),
})

const baseImage = v.strictObject({
  name: text,
  provider,
  sha256: said(text, "Of the image's file."),
  source: text,
  contents: said(v.array(text), 'Packages with versions.'),
  createdAt: time,
  sizeBytes: whole,
}) satisfies v.GenericSchema<BaseManifest>

const check = v.strictObject({
  subject: said(text, 'The side that was checked, for example GitHub.'),
  status: said(
    v.picklist(['ok', 'warning', 'error']),
    '`error`: something will not work. `warning`: it works, but somebody should know.',
  ),
  text,
  remedy: v.nullable(text),
}) satisfies v.GenericSchema<Check>

/** By the names of the table of commands. */
export const outputs = {
  init: v.strictObject({
    path: said(text, 'The file of the settings.'),
    written: yes,
    checks: v.array(check),
    changes: v.array(
      v.strictObject({ setting: said(text, 'As config.yaml names it.'), change: v.picklist(['set', 'removed']) }),
    ),
    next: said(v.array(text), 'Commands to go on with; none while something is wrong.'),
  }),
  create: change,
  list: v.array(
    v.strictObject({
      ...known,
      diskBytes: said(
        v.nullable(whole),
        'What it takes on the host with its checkpoints; null where that cannot be told.',
      ),
      ssh: v.nullable(sshInfo),
      checkpoints: said(v.array(text), 'Names, oldest first.'),
    }),
  ),
  ssh: v.union([hosts, installed]),
  forward: v.strictObject({
    ticket,
    forwards: said(
      v.array(v.strictObject({ host: text, port: whole, to: said(whole, "The machine's port.") })),
      'Printed once all are open.',
    ),
  }),
  checkpoint: change,
  checkpoints: v.array(
    v.strictObject({
      name: text,
      why: said(v.nullable(checkpoint.entries.why), 'Null, as what follows, of one that agent-swarm did not make.'),
      commit: checkpoint.entries.commit,
      createdAt: v.nullable(time),
      withMemory: v.nullable(yes),
      sizeBytes: checkpoint.entries.sizeBytes,
    }),
  ),
  restore: change,
  stop: change,
  start: change,
  delete: change,
  status: v.union([hostStatus, ticketStatus]),
  providers: v.array(
    v.strictObject({
      name: provider,
      available: yes,
      reason: said(v.nullable(text), 'Why it is not available.'),
      capabilities: said(
        v.array(
          v.picklist([
            'liveCheckpoints',
            'memoryCheckpoints',
            'deleteCheckpoint',
            'usage',
            'capacity',
            'consoleTail',
            'listBaseImages',
            'buildBase',
            'runInGuest',
            'shellInGuest',
          ]),
        ),
        'What it can do beyond what each can.',
      ),
      provenOn: said(v.nullable(text), 'Where its tests have run for real.'),
    }),
  ),
  'init-base': v.union([
    baseImage,
    v.strictObject({
      name: text,
      result: said(v.literal('planned'), 'With --dry-run.'),
      would: said(v.array(v.picklist(['build', 'seal', 'prove'])), 'Empty when the image is there.'),
    }),
  ]),
  bot: shown,
  'bot audit': v.array(judged),
  'bot inbox': v.array(delivery),
  'bot replay': v.strictObject({
    replayed: v.picklist(['again', 'took effect', 'in hand']),
    delivery: v.nullable(delivery),
  }),
  up: shown,
  /** Not a command: what each prints in place of its own when it fails before it has an outcome. */
  error: v.strictObject({ error: failure }),
}
export type Output<Name extends keyof typeof outputs> = v.InferOutput<(typeof outputs)[Name]>
