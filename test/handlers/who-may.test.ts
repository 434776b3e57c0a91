/** A refusal says who may: every way to refuse somebody, with the words that they or the operator read. */
import { expect, test } from 'vitest'
import { type CommandName, commandsFor } from '../../handlers/slash-commands.ts'
import { type Commander, mayRun } from '../../handlers/who-may.ts'
import { rules } from './fixtures.ts'

const dev = { via: 'github', login: 'dev', isBot: false, permission: 'write', teams: [] } as const
const people: Record<string, Commander> = {
  'somebody with write access': dev,
  'an administrator whose teams cannot be read': { ...dev, permission: 'admin', teams: null },
  'a reader': { ...dev, permission: 'read' },
  'a stranger': { ...dev, permission: 'none' },
  'a bot': { ...dev, isBot: true },
  'an assignee': { via: 'jira', account: 'ada', isBot: false, isAssignee: true },
  'another account': { via: 'jira', account: 'eve', isBot: false, isAssignee: false },
  'an account without an id': { via: 'jira', account: null, isBot: false, isAssignee: false },
  'an app': { via: 'jira', account: 'app', isBot: true, isAssignee: true },
}
const named: Record<string, string[] | undefined> = {
  'no rule': undefined,
  'a rule for a team': ['acme/leads'],
  'a rule for nobody': [],
}

const refusals = new Set<string>()
const names = commandsFor('github').map(({ usage }) => usage.split(' ')[0] as CommandName)
test.for(Object.keys(people).flatMap(who => Object.keys(named).map(rule => [who, rule] as const)))(
  '%s, with %s',
  ([who, rule]) => {
    for (const name of names) {
      const only = named[rule]
      const commands = only === undefined ? {} : { [name]: only }
      const { may, reason } = mayRun(name, people[who] as Commander, { ...rules, commands })
      if (may) continue
      refusals.add(reason.replaceAll(`\`${name}\``, '`it`'))
      expect(reason).toMatch(/\b(?:only|nobody)\b.*\bmay\b/)
    }
  },
)

test('these are all refusals', () => {
  expect([...refusals].sort()).toEqual([
    'bots cannot give commands: only people may',
    'dev has no write access: only people with write access may give commands',
    'nobody may use `it` here (.github/agent-swarm.yml)',
    'nobody may use `it` here (.github/agent-swarm.yml). Team members cannot be read: the App needs the permission to read members',
    'only `acme/leads` may use `it` here (.github/agent-swarm.yml)',
    'only `acme/leads` may use `it` here (.github/agent-swarm.yml). Team members cannot be read: the App needs the permission to read members',
    'only the assignee of the ticket and the accounts in JIRA_COMMANDERS may give commands',
  ])
})
