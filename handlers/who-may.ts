/** Who may give which command. What this needs to know about a person is read beforehand. */
import type { Rules } from './handler.ts'
import type { CommandName } from './slash-commands.ts'

/** Somebody who gives a command, as they are at this moment. */
export type Commander =
  | {
      via: 'github'
      login: string
      isBot: boolean
      /** In the repository; `maintain` counts as write, `triage` as read. */
      permission: 'admin' | 'write' | 'read' | 'none'
      /** Their teams, among those that a rule names; null when they cannot be read. */
      teams: readonly string[] | null
    }
  | { via: 'jira'; account: string | null; isBot: boolean; isAssignee: boolean }

type Permission = { may: boolean; reason: string }
const may = (reason: string): Permission => ({ may: true, reason })
const mayNot = (reason: string): Permission => ({ may: false, reason })

/** Whether they may give commands at all. */
export const mayCommand = (who: Commander, { jiraCommanders }: Rules): Permission => {
  if (who.isBot) return mayNot('bots cannot give commands: only people may')
  if (who.via === 'github')
    return who.permission === 'admin' || who.permission === 'write'
      ? may(`${who.login} has ${who.permission} access`)
      : mayNot(`${who.login} has no write access: only people with write access may give commands`)
  if (who.isAssignee) return may('the assignee of the ticket')
  return who.account !== null && jiraCommanders.includes(who.account)
    ? may('a listed account')
    : mayNot('only the assignee of the ticket and the accounts in JIRA_COMMANDERS may give commands')
}

/** Rules name people by login, teams as `org/team`, and Jira accounts as `jira:<account id>`. */
const isNamed = (who: Commander, names: readonly string[]): boolean => {
  if (who.via === 'jira') return names.includes(`jira:${who.account}`)
  const theirs = [who.login, ...(who.teams ?? [])].map(name => name.toLowerCase())
  return names.some(name => theirs.includes(name.toLowerCase()))
}

const MAX_NAMES = 5
/** In backticks, so that a reply notifies none of them. */
const listed = (names: readonly string[]): string => {
  const shown = names.slice(0, MAX_NAMES).map(name => `\`${name}\``)
  const more = names.length - shown.length
  return [...shown, ...(more > 0 ? [`${more} more`] : [])].join(', ')
}

/** Whether they may give this command. A rule for it only narrows who may command at all. */
export const mayRun = (name: CommandName, who: Commander, rules: Rules): Permission => {
  const general = mayCommand(who, rules)
  const names = rules.commands[name]
  if (!general.may || names === undefined) return general
  if (isNamed(who, names)) return may(`${general.reason}, and named in the rule for ${name}`)
  const only = names.length === 0 ? 'nobody' : `only ${listed(names)}`
  const unreadable =
    who.via === 'github' && who.teams === null
      ? '. Team members cannot be read: the App needs the permission to read members'
      : ''
  return mayNot(`${only} may use \`${name}\` here (.github/agent-swarm.yml)${unreadable}`)
}

/** The teams that the rules for these commands name, in lower case. */
export const teamsInRules = (commands: readonly CommandName[], rules: Rules): string[] => [
  ...new Set(
    commands
      .flatMap(command => rules.commands[command] ?? [])
      .filter(name => name.includes('/'))
      .map(name => name.toLowerCase()),
  ),
]
