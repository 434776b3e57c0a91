/**
 * What each command prints with `--json`: the schemas of src/schema, and what is the CLI's own. The code that prints takes its
 * types from here, and docs/json and docs/cli.md are made of it, so that the three cannot differ. Commands import only types
 * from it.
 */
import * as v from 'valibot'
import type { Check } from '../check.ts'
import { action, actionKinds, progress, requester } from '../schema/action.ts'
import {
  checkpointName,
  count,
  described,
  environmentKey,
  imageName,
  machineSize,
  providerName,
  time,
  vmId,
} from '../schema/basics.ts'
import { checkpoint, environment, sshAddress, unsavedWork } from '../schema/environment.ts'
import { failure } from '../schema/failure.ts'
import { baseManifest, machinePrice, vmUsage } from '../schema/machine.ts'
import { operation, poolStanding, rescued, runningOperation, waitingAction } from '../schema/operation.ts'
import { doneOutcome, failedOutcome, outcome, skippedOutcome } from '../schema/outcome.ts'
import { pruneItem } from '../schema/prune.ts'
import { SERVICE_NAMES } from '../service/system.ts'
import { capabilities } from './capabilities.ts'

const text = v.string()
const positive = v.pipe(v.number(), v.minValue(0))
const kind = v.picklist(actionKinds)

/** What a command prints that changes one environment. */
const change = v.variant('result', [
  v.object({ ticket: environmentKey, ...doneOutcome.entries }),
  v.object({
    ticket: environmentKey,
    ...skippedOutcome.entries,
    environment: described(v.optional(skippedOutcome.entries.environment), 'Missing with --dry-run and --detach.'),
  }),
  v.object({ ticket: environmentKey, ...failedOutcome.entries }),
  v.object({
    ticket: environmentKey,
    result: described(v.literal('planned'), 'With --dry-run.'),
    would: described(v.array(text), 'What the command would do, step by step.'),
  }),
  v.object({
    ticket: environmentKey,
    result: described(v.literal('detached'), 'With --detach.'),
    kind,
    pid: described(count, 'The process in the background.'),
    log: described(text, 'The file with its output.'),
  }),
])

/** Of the commands that take several tickets. */
const changes = v.union([
  change,
  described(v.array(change), 'With several tickets, or --stopped: one for each ticket.'),
])

const delivery = v.object({
  source: v.picklist(['github', 'jira', 'clock', 'runner']),
  id: text,
  event: text,
  about: described(
    v.nullable(text),
    'The ticket, pull request or branch, for example DROP-1, acme/shop#7 or acme/shop a-branch.',
  ),
  receivedAt: time,
  verdict: v.picklist(['actions', 'ignored', 'refused', 'failed', 'waiting']),
  reason: described(v.nullable(text), 'Reason of the verdict; while it waits, why it could not be decided.'),
  attempt: described(count, 'How often deciding it failed.'),
  dueAt: described(v.nullable(time), 'When a waiting one is decided next.'),
  settledAt: v.nullable(time),
  actions: described(
    v.array(
      v.object({
        kind,
        ticket: environmentKey,
        state: v.picklist(['pending', 'active', 'done', 'dead', 'cancelled']),
        result: v.nullable(v.picklist(['done', 'skipped', 'failed'])),
        reason: described(v.nullable(text), 'Why it was skipped, or failed.'),
      }),
    ),
    'The actions that it became.',
  ),
})

/** A command that somebody gave in a comment. */
const judged = v.object({
  at: time,
  who: described(text, 'The GitHub login or the Jira account.'),
  name: described(v.nullable(text), "A Jira account's display name; null when it is not known."),
  place: described(text, 'The pull request or the ticket with the comment.'),
  ticket: described(v.nullable(environmentKey), 'Null when it is not about a ticket.'),
  what: described(text, 'The command, or the whole comment when it was not read as one.'),
  verdict: v.picklist(['allowed', 'refused']),
  reason: text,
})

/** A line of a dry run of the bot. */
const shown = v.variant('what', [
  v.object({
    what: v.literal('delivery'),
    source: delivery.entries.source,
    event: text,
    id: text,
    verdict: v.picklist(['actions', 'ignored', 'refused', 'failed']),
    reason: v.nullable(text),
    actions: described(v.array(v.object({ id: text, correlation: text, action })), 'What would be queued.'),
  }),
  v.object({
    what: described(v.literal('request'), 'What would be written.'),
    to: v.picklist(['GitHub', 'Jira']),
    method: text,
    path: text,
    body: v.unknown(),
  }),
])

/** Shared by several outputs: described once, under these names. */
export const forms = {
  Failure: failure,
  Requester: requester,
  Ssh: sshAddress,
  Progress: progress,
  Checkpoint: checkpoint,
  UnsavedWork: unsavedWork,
  Usage: vmUsage,
  Price: machinePrice,
  Environment: environment,
  Outcome: outcome,
  Change: change,
  Operation: operation,
  UnderWay: runningOperation,
  Waiting: waitingAction,
  Rescued: rescued,
  Delivery: delivery,
  Action: action,
  Shown: shown,
}

// ── The commands ──

const hosts = v.array(
  v.object({
    ticket: environmentKey,
    names: described(v.array(text), 'Host names for ssh; empty when ssh cannot reach it.'),
    options: described(v.nullable(v.record(text, text)), 'Options for ssh_config.'),
    hostKey: described(v.nullable(text), 'The public key that its SSH server must show.'),
    reason: described(v.nullable(text), 'Why ssh cannot reach it.'),
  }),
)
const installed = v.object({
  result: described(v.picklist(['done', 'planned', 'skipped']), 'With --install and --uninstall.'),
  steps: v.array(text),
  text: described(v.optional(v.nullable(text)), 'With --dry-run: the content of the file.'),
})

const paused = described(v.nullable(text), "The hypervisor's reason why the machine is paused; null when it is not.")

const price = described(v.optional(machinePrice), 'Missing where machines cost nothing of their own.')
const capacity = { total: count, available: count }
const hostStatus = v.object({
  host: described(text, 'Without a ticket: the name of this host.'),
  load: positive,
  cpus: v.object({ total: count, allocated: described(count, 'To running machines.') }),
  memoryBytes: v.object({ ...capacity, allocated: count, used: described(count, 'What the machines use.') }),
  diskBytes: v.object({ ...capacity, used: count }),
  fits: described(
    v.nullable(
      v.object({
        environments: count,
        endsFirst: v.picklist(['memory', 'cpus', 'disk']),
        size: machineSize,
      }),
    ),
    'How many more machines of this size fit, and what runs out first; null where machines are not on this host.',
  ),
  environments: v.array(
    v.object({
      ticket: environmentKey,
      provider: providerName,
      vmId,
      status: environment.entries.status,
      usage: v.nullable(vmUsage),
      price,
      project: described(environment.entries.project, 'Missing: the machine has none.'),
      interruption: environment.entries.interruption,
      cpusBusy: described(v.nullable(positive), 'Processors in use, 1.5 for one and a half.'),
    }),
  ),
  pools: described(v.array(poolStanding), 'Machines that are kept ready (setting `pool`).'),
  underWay: v.array(runningOperation),
  waiting: v.array(waitingAction),
  rescued: described(v.array(rescued), 'Work that was rescued before a delete, newest first, at most 200.'),
  unread: described(
    v.array(v.object({ provider: providerName, message: text })),
    'Hypervisors that could not be queried; their machines are shown with their last known state.',
  ),
})
const ticketStatus = v.object({
  ticket: described(environmentKey, 'With a ticket as argument.'),
  environment: v.nullable(v.object({ ...environment.entries, usage: v.nullable(vmUsage), price, paused })),
  attempts: described(
    v.array(v.object({ ticket: environmentKey, status: environment.entries.status })),
    'Of a ticket: the machines that were forked for it.',
  ),
  desired: described(v.nullable(v.picklist(['running', 'stopped', 'absent'])), 'The state that was requested last.'),
  desiredBy: v.nullable(requester),
  underWay: v.array(runningOperation),
  waiting: v.array(waitingAction),
  rescued: described(v.array(rescued), 'Work of this ticket that was rescued before a delete, newest first.'),
  operations: described(v.array(operation), 'Its history, newest first.'),
})

const manifest = v.omit(baseManifest, ['contents', 'name', 'provider']).entries
const listedImage = v.object({
  name: imageName,
  provider: providerName,
  sizeBytes: described(v.nullable(count), 'Null, like the following members, when the image cannot be used.'),
  sha256: described(v.nullable(text), 'SHA-256 of the image file.'),
  profile: manifest.profile,
  source: v.nullable(text),
  createdAt: v.nullable(time),
  proven: manifest.proven,
  unproven: manifest.unproven,
  tickets: described(v.array(environmentKey), 'The environments of this home that use it.'),
  machines: described(v.array(text), 'What else uses it: machines of other homes, or without a ticket.'),
})

const check = v.object({
  subject: described(text, 'What was checked.'),
  status: described(
    v.picklist(['ok', 'warning', 'error']),
    '`error`: something will not work. `warning`: it works, but somebody should know.',
  ),
  text,
  remedy: v.nullable(text),
}) satisfies v.GenericSchema<Check>

const work = unsavedWork.pipe[0].options[0].entries.repositories.pipe[0].item.entries
const rescuedDetails = v.object({
  ...v.pick(rescued, ['name', 'ticket', 'savedAt', 'folder']).entries,
  by: described(requester, 'Who deleted the machine.'),
  machine: v.object({ provider: text, vmId: text, baseImage: text }),
  repositories: v.array(
    v.object({
      ...work,
      branch: described(v.nullable(text), 'The branch that was checked out; null when none was, or it is not known.'),
      bundle: described(text, 'The file in the folder.'),
      bytes: count,
      branches: v.array(text),
      getBack: described(v.array(text), 'Shell commands that restore it by hand.'),
    }),
  ),
})
const rescuedRestored = v.object({
  name: text,
  ticket: described(v.nullable(environmentKey), 'With --into: whose machine it is.'),
  repositories: v.array(
    v.object({
      path: described(text, 'In the deleted machine.'),
      folder: described(v.nullable(text), 'The new repository on this host; null with --into.'),
      branches: described(v.array(text), 'With --into: the new branches, and tags as `tags/…`.'),
      links: described(count, 'Symbolic links that were written as files with their targets.'),
    }),
  ),
})

const serviceFile = {
  service: described(v.picklist(SERVICE_NAMES), 'The command that runs as the service.'),
  system: described(v.picklist(['systemd', 'launchd', 'Task Scheduler']), 'What keeps it running.'),
  file: described(text, 'The path of the unit, the agent or the task.'),
}

/** By the names of the table of commands. */
export const outputs = {
  init: v.object({
    path: described(text, 'The file of the settings.'),
    written: v.boolean(),
    checks: v.array(check),
    changes: v.array(
      v.object({ setting: described(text, 'As named in config.yaml.'), change: v.picklist(['set', 'removed']) }),
    ),
    next: described(v.array(text), 'Commands to continue with; none while something is wrong.'),
  }),
  create: changes,
  prune: v.object({
    result: described(v.picklist(['planned', 'done']), '`planned`: without --yes.'),
    bytes: described(count, 'Of all that is removed, or would be.'),
    removed: v.array(
      v.object({
        ...pruneItem.entries,
        rescued: described(v.nullable(text), 'The unsaved work that was saved first, and where.'),
      }),
    ),
    failed: described(v.array(v.object({ ...pruneItem.entries, failure })), 'What stays after all.'),
    kept: v.array(pruneItem),
    unread: described(v.array(v.object({ provider: providerName, message: text })), 'Hypervisors that did not answer.'),
  }),
  reconcile: v.array(
    v.object({
      ticket: described(v.nullable(environmentKey), 'Null: it is about no ticket.'),
      vmId: v.nullable(vmId),
      finding: described(text, 'What differs.'),
      step: described(text, 'What is done; with --dry-run, what would be. `none: …`: it is kept, or waits.'),
    }),
  ),
  list: v.array(
    v.object({
      ticket: environmentKey,
      provider: providerName,
      vmId,
      ip: environment.entries.ip,
      status: environment.entries.status,
      baseImage: environment.entries.baseImage,
      createdAt: time,
      diskBytes: described(v.nullable(count), "On the host's disk, with its checkpoints; null when unknown."),
      paused,
      ssh: environment.entries.ssh,
      checkpoints: described(v.array(checkpointName), 'Names, oldest first.'),
      price,
      interruption: environment.entries.interruption,
      attempt: described(
        v.nullable(v.object({ of: environmentKey, from: v.nullable(checkpointName) })),
        'What it was forked from, and its checkpoint; null when it was not forked.',
      ),
    }),
  ),
  ssh: v.union([hosts, installed]),
  forward: v.object({
    ticket: environmentKey,
    forwards: described(
      v.array(v.object({ host: text, port: count, to: described(count, "The machine's port.") })),
      'Printed once all ports are open.',
    ),
  }),
  logs: v.object({
    ticket: environmentKey,
    logs: described(
      v.array(
        v.object({
          name: v.picklist(['setup', 'start', 'agent']),
          text: described(text, 'Its end, at most 64 KiB: outside text.'),
        }),
      ),
      'Those that are there.',
    ),
  }),
  checkpoint: change,
  fork: change,
  promote: change,
  checkpoints: v.array(
    v.object({
      name: text,
      why: described(
        v.nullable(checkpoint.entries.why),
        'Null, like the following members, when agent-swarm did not make it.',
      ),
      commit: checkpoint.entries.commit,
      createdAt: v.nullable(time),
      withMemory: v.nullable(v.boolean()),
      sizeBytes: described(v.nullable(count), 'Disk space that making it took; null when unknown.'),
    }),
  ),
  restore: change,
  'rescued list': v.array(rescued),
  'rescued show': rescuedDetails,
  'rescued restore': rescuedRestored,
  'agent start': change,
  'agent stop': change,
  tell: change,
  stop: changes,
  start: changes,
  restart: changes,
  delete: changes,
  status: v.union([hostStatus, ticketStatus]),
  providers: v.array(
    v.object({
      name: providerName,
      available: v.boolean(),
      reason: described(v.nullable(text), 'Why it is not available.'),
      capabilities: described(
        v.array(v.picklist(capabilities)),
        'What it can do beyond what every provider can. `isolated` only where it is available and says that its machines are isolated here.',
      ),
      provenOn: described(
        v.nullable(text),
        'Where and when it kept its promises on a real hypervisor: the newest transcript of docs/proven/, else of this home (`here, 2026-11-28`). Null: unproven.',
      ),
    }),
  ),
  doctor: v.union([
    v.object({ checks: v.array(check) }),
    v.object({
      provider: described(providerName, 'With --selftest, like the following members.'),
      promises: described(
        v.array(
          v.object({
            name: text,
            result: v.picklist(['ok', 'failed', 'left-out']),
            milliseconds: count,
            why: described(v.nullable(text), 'Why it is broken or was left out.'),
          }),
        ),
        'In the order in which they were tried.',
      ),
      transcript: described(text, 'The file with the outside commands that each promise took.'),
    }),
    v.object({
      result: described(v.picklist(['planned', 'done']), 'With --rebuild-registry; `done` with --yes.'),
      homeId: described(text, 'The id in the marks of the machines.'),
      machines: described(
        v.array(
          v.object({
            ticket: v.nullable(environmentKey),
            vmId: text,
            provider: providerName,
            status: v.picklist(['running', 'stopped', 'creating']),
            canLogIn: described(v.boolean(), 'Whether this home has its keys.'),
            kept: described(v.nullable(text), 'Why it gets no row, and is left as it is; null when it gets one.'),
          }),
        ),
        'Machines of the home that the registry does not have.',
      ),
      unread: described(
        v.array(v.object({ provider: providerName, message: text })),
        'Hypervisors that could not be queried.',
      ),
      would: described(v.array(text), 'What it does besides.'),
    }),
  ]),
  'service install': v.object({
    ...serviceFile,
    result: described(
      v.picklist(['planned', 'done', 'restarted', 'skipped']),
      '`planned`: with --dry-run. `restarted`: the file is there, and config.yaml was changed since. `skipped`: the file is there, and the service runs.',
    ),
    running: described(v.nullable(v.boolean()), 'Null: the system does not tell, or nothing was done.'),
    content: described(text, 'The text of the file.'),
    difference: described(
      v.array(text),
      'Lines that go (`-`) and come (`+`), when another version of the file is there.',
    ),
    commands: described(v.array(text), 'What is run besides.'),
    notes: v.array(text),
  }),
  'service uninstall': v.object({
    ...serviceFile,
    result: described(
      v.picklist(['planned', 'done', 'skipped']),
      '`planned`: with --dry-run. `skipped`: there is no file.',
    ),
    commands: described(v.array(text), 'What is run besides.'),
  }),
  'service status': v.object({
    ...serviceFile,
    installed: v.boolean(),
    current: described(
      v.nullable(v.boolean()),
      'Whether the file is what an install would write; null when it is not installed.',
    ),
    enabled: described(v.boolean(), 'Whether the system starts it by itself.'),
    running: described(v.nullable(v.boolean()), 'Null: the system does not tell.'),
    pid: v.nullable(count),
    restarts: described(v.nullable(count), 'How often it was started again after it had ended; null when unknown.'),
    startsAt: v.picklist(['boot', 'log-in']),
    survivesLogout: described(v.boolean(), 'Whether it runs on when its user logs out.'),
    notes: v.array(text),
  }),
  'support-bundle': v.object({
    file: described(text, 'The path of the .tar.gz.'),
    bytes: count,
    contents: v.array(v.object({ name: text, holds: text, bytes: count })),
    missing: v.array(v.object({ name: text, why: text })),
    leftOut: described(v.array(text), 'What is not in it.'),
  }),
  'init-base': v.union([
    baseManifest,
    v.object({
      name: imageName,
      result: described(v.literal('planned'), 'With --dry-run.'),
      would: described(
        v.array(v.picklist(['download', 'build', 'seal', 'prove', 'delete'])),
        'Empty when the image to build exists.',
      ),
    }),
    v.object({ name: imageName, result: described(v.literal('deleted'), 'With --delete.') }),
    described(v.array(listedImage), 'With --list.'),
  ]),
  bot: shown,
  'bot audit': v.array(judged),
  'bot inbox': v.array(delivery),
  'bot held': v.array(
    v.object({
      id: described(text, 'For bot replay.'),
      createdAt: described(v.nullable(time), 'When it was queued.'),
      kind: described(v.picklist(['action', 'message']), '`message`: a comment, a reaction or a link.'),
      about: described(text, 'The ticket or the pull request.'),
      what: described(text, 'The kind of the action or message.'),
    }),
  ),
  'bot replay': v.object({
    replayed: described(
      v.picklist(['again', 'had-effect', 'in-progress']),
      '`again`: it is decided again, or queued again when it was held. `had-effect`: nothing is done. `in-progress`: it is already being decided.',
    ),
    delivery: described(v.nullable(delivery), 'Null for what was held.'),
  }),
  'bot runner add': v.object({
    name: v.string(),
    id: described(v.string(), 'The id of the runner for the bot.'),
    token: described(v.string(), 'Shown this once; the bot keeps its hash alone.'),
  }),
  'bot runner list': v.array(
    v.object({
      name: described(v.nullable(v.string()), 'Null without a token of its own.'),
      id: v.string(),
      token: described(
        v.picklist(['own', 'shared', 'none']),
        '`own`: made by `bot runner add`. `shared`: that of AGENT_SWARM_RUNNER_TOKEN. `none`: it can no longer connect.',
      ),
      host: described(v.nullable(v.string()), 'Null until it is heard.'),
      connected: v.boolean(),
      seenAt: v.nullable(time),
    }),
  ),
  'bot runner revoke': v.object({ name: v.string(), id: v.string() }),
  'bot runner forget': v.object({
    result: described(v.picklist(['planned', 'done']), '`planned`: without --yes.'),
    name: v.nullable(text),
    id: text,
    host: v.nullable(text),
    seenAt: v.nullable(time),
    machines: described(
      v.array(
        v.object({
          ticket: environmentKey,
          vmId,
          provider: providerName,
          status: environment.entries.status,
          unsavedWork: v.nullable(unsavedWork),
          heardAt: time,
        }),
      ),
      'As it last reported them.',
    ),
    tickets: described(v.array(environmentKey), 'Without a machine, and pinned to it.'),
    released: described(
      v.array(v.object({ kind, ticket: environmentKey })),
      'Queued actions that any runner can do now.',
    ),
    ended: described(v.array(v.object({ kind, ticket: environmentKey })), 'Queued actions that end as failed.'),
  }),
  up: shown,
  /** Not a command: printed instead of a command's output when it fails before it has an outcome. */
  error: v.object({ error: failure }),
}
export type Output<Name extends keyof typeof outputs> = v.InferOutput<(typeof outputs)[Name]>
