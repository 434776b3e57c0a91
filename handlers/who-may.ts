/** Who may give which command. Pure: what must be known of a person is read beforehand. */
import type { Rules } from './handler.ts'
import type { CommandName } from './slash-commands.ts'

/** Somebody who commands, as they are at this moment. */
export type Commander =
  | {
      via: 'github'
      login: string
      isBot: boolean
      /** In the repository; `maintain` counts as write, `triage` as read. */
      permission: 'admin' | 'write' | 'read' | 'none'
      /** Of the teams that a rule names, those that they belong to; null when these cannot be read. */
      teams: readonly string[] | null
    }
  | { via: 'jira'; account: string | null; isBot: boolean; isAssignee: boolean }

type MayRun = { may: boolean; because: string }

const may = (because: string): MayRun => ({ may: true, because })
const mayNot = (because: string): MayRun => ({ may: false, because })

/** Whether they may command here at all. */
export const mayCommand = (who: Commander, { jiraCommanders }: Rules): MayRun => {
  if (who.isBot) return mayNot('a bot gives no commands')
  if (who.via === 'github')
    return who.permission === 'admin' || who.permission === 'write'
      ? may(`${who.login} has ${who.permission} access`)
      : mayNot(`${who.login} has no write access`)
  if (who.isAssignee) return may('the assignee of the ticket')
  return who.account !== null && jiraCommanders.includes(who.account)
    ? may('an account that is listed')
    : mayNot('neither the assignee of the ticket nor an account that is listed')
}

/** Rules name people as logins, teams as `org/team`, and Jira accounts as `jira:<account id>`. */
const isNamed = (who: Commander, names: readonly string[]): boolean => {
  if (who.via === 'jira') return names.includes(`jira:${who.account}`)
  const theirs = [who.login, ...(who.teams ?? [])].map(one => one.toLowerCase())
  return names.some(one => theirs.includes(one.toLowerCase()))
}

/** Whether they may give this command: a rule for it only ever narrows. */
export const mayRun = (name: CommandName, who: Commander, rules: Rules): MayRun => {
  const allowed = mayCommand(who, rules)
  if (!allowed.may) return allowed
  const names = rules.commands[name]
  if (names === undefined) return allowed
  if (isNamed(who, names)) return may(`${allowed.because}, and a rule for ${name} names them`)
  const unread = who.via === 'github' && who.teams === null
  const why = unread ? ', and the teams that it names cannot be read: the App needs the permission to read members' : ''
  return mayNot(`a rule keeps the command ${name} for others${why}`)
}

/** The teams that must be looked up for these commands: those that their rules name. */
export const teamsInRules = (names: readonly CommandName[], { commands }: Rules): string[] => [
  ...new Set(
    names
      .flatMap(name => commands[name] ?? [])
      .filter(one => one.includes('/'))
      .map(one => one.toLowerCase()),
  ),
]
