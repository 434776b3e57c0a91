/**
 * What the bot remembers beside its queue: which pull requests belong to a ticket, where its comments are, and what the
 * runners said they have. A file of its own, so that the queue may move elsewhere without it. Times are epoch milliseconds.
 */
import { type OpenStore, openStore } from '../../sqlite.ts'
import { asked } from './asked.ts'
import { audit } from './audit.ts'
import { commands } from './commands.ts'
import { environments } from './environments.ts'
import { githubComments } from './github-comments.ts'
import { jiraComments } from './jira-comments.ts'
import { operations } from './operations.ts'
import { places } from './places.ts'
import { planned } from './planned.ts'
import { pullRequests } from './pull-requests.ts'
import { repositories } from './repositories.ts'
import { runners } from './runners.ts'
import { migrations } from './schema.ts'
import { openTables } from './tables.ts'
import { tickets } from './tickets.ts'

export type Memory = ReturnType<typeof openMemory>

/** `path` may be `:memory:`. `clock` gives epoch milliseconds. */
export const openMemory = (path: string, clock: () => number, open: OpenStore = openStore) => {
  const store = open(path, migrations)
  const tables = openTables(store, clock)
  const { run, together } = tables
  const ofTickets = { ...tickets(tables), ...asked(tables), ...planned(tables) }
  const ofMachines = environments(tables, ofTickets)

  // One flat object: no two subjects have a name in common.
  return {
    together,
    ...ofTickets,
    ...pullRequests(tables),
    ...repositories(tables),
    ...places(tables),
    ...githubComments(tables),
    ...jiraComments(tables),
    ...commands(tables),
    ...audit(tables),
    ...ofMachines,
    ...runners(tables, { ...ofTickets, ...ofMachines }),
    ...operations(tables),
    /**
     * Forgets what is over since before then: answered commands, what was asked for before something else was, and comments
     * and runners of machines that are gone. Of a machine that is there, nothing is said twice.
     */
    purge: (before: number): void => {
      const over = 'ok is not null and coalesce(ended_at, at) < ?'
      const here = 'from environment where gone_at is null'
      run(
        `delete from comment where kind = 'reply' and (repo, about) in
        (select json_extract(comment, '$.repo'), cast(json_extract(comment, '$.commentId') as text)
         from command where ${over})`,
        before,
      )
      run(`delete from command where ${over}`, before)
      ofTickets.forgetAsked(before)
      run('delete from change where at < ?', before)
      run(`delete from jira_comment where done_at < ? and ticket not in (select ticket ${here})`, before)
      run(
        `delete from runner where seen_at < ? and id not in (select runner_id ${here} and runner_id is not null)`,
        before,
      )
    },
    close: () => store.db.close(),
  }
}
