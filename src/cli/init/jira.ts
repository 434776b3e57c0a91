/** How the bot reaches Jira Cloud: it looks, or Jira tells it; and whose tickets get machines. */
import { problem, warning } from '../../bot/check.ts'
import { openJiraCheck } from '../../bot/jira/check.ts'
import { SCOPES_SAID, TOKEN_PAGE } from '../../bot/jira/gateway.ts'
import { settings } from '../../config/settings.ts'
import { howToGive, JIRA } from './answers.ts'
import type { Desk } from './desk.ts'

const ways = [
  { value: 'polling', label: 'It looks every minute', hint: 'no public address, no webhook' },
  { value: 'webhook', label: 'By a webhook', hint: 'Jira has to reach the bot' },
  { value: 'none', label: 'Not at all', hint: 'GitHub alone' },
] as const
type Way = (typeof ways)[number]['value']

const askProjects =
  ({ answers }: Desk, seen: readonly string[]) =>
  (again: boolean) =>
    answers.text('jiraProjects', {
      question: 'The keys of the projects whose tickets get machines',
      where: `As DROP, with commas.${seen.length === 0 ? '' : ` You see ${seen.join(', ')}.`}`,
      again,
      likely: seen.length === 1 ? (seen[0] ?? '') : '',
    })

const askAssignees = async ({ answers, ask }: Desk) => {
  const present = answers.get('jiraAssignees')
  if (ask === null || answers.isFlagged('jiraAssignees') || Array.isArray(present)) return
  const whose = await ask.choose(
    'Whose tickets get machines by themselves?',
    [
      { value: 'me', label: `Those that are assigned to ${answers.get('jiraEmail')}` },
      { value: 'any', label: 'All of these projects', hint: 'for the bot of a team' },
    ],
    present === 'any' ? 'any' : 'me',
  )
  // What is so anyway need not be said.
  if (whose !== 'me' || present !== undefined) answers.set('jiraAssignees', whose)
}

/** `withGitHub`: which projects there are matters all the same. */
export const setUpJira = async (desk: Desk, withGitHub: boolean): Promise<void> => {
  const { answers, ask, note: keep, settle, unlessCancelled } = desk
  const begun = answers.has('jiraHost') || answers.has('jiraApiToken') || (ask !== null && answers.isNew())
  const way = await answers.choose<Way>(
    'jira',
    'How does agent-swarm reach Jira Cloud?',
    ways,
    answers.has('jiraWebhookSecret') ? 'webhook' : begun ? 'polling' : 'none',
  )
  if (way === 'none') {
    answers.forget(JIRA)
    if (withGitHub) await askProjects(desk, [])(false)
    return
  }
  if (way === 'polling') answers.forget(['jiraWebhookSecret'])

  const opened = async () => {
    const { jira } = await answers.candidate()
    return jira === null ? null : openJiraCheck(jira)
  }
  const known = await settle(
    async again => {
      await answers.text('jiraHost', {
        question: 'The site',
        where: 'The name in the address of your board, as example.atlassian.net.',
        again,
      })
      await answers.text('jiraEmail', {
        question: 'Your e-mail address there',
        where: 'Of the account whose token comes next: as this account the bot comments.',
        again,
      })
      await answers.secret('jiraApiToken', {
        question: 'Its API token',
        where: `Make one: ${TOKEN_PAGE} One with scopes needs ${SCOPES_SAID}.`,
        again,
      })
    },
    async () => {
      const account = await (await opened())?.account()
      if (account === undefined)
        return (['jiraHost', 'jiraEmail', 'jiraApiToken'] as const)
          .filter(name => !answers.has(name))
          .map(name => problem('Jira', `${settings[name].env} is missing`, howToGive(name)))
      const { checks, instead } = account
      if (instead !== null) answers.set('jiraHost', instead)
      return checks
    },
  )
  const check = known ? await opened() : null
  const seen = ask === null || check === null ? [] : await unlessCancelled(check.projects())
  await settle(askProjects(desk, seen), async () => {
    const { projects } = await answers.candidate()
    if (check === null) return []
    return (await Promise.all(projects.map(check.project))).flat()
  })
  await askAssignees(desk)
  if (way === 'polling') return
  await settle(
    again =>
      answers.secret('jiraWebhookSecret', {
        question: 'The secret of the webhook',
        where: 'The same as in Jira (Settings, System, WebHooks).',
        again,
        made: true,
      }),
    async () => (await opened())?.webhook() ?? [],
  )
  keep([
    warning(
      'Jira',
      'it needs a webhook: Settings, System, WebHooks',
      `URL: https://<your address>/jira/webhook. Events: issue created, updated, deleted; comment created, updated. Secret: jiraWebhookSecret in ${answers.path}`,
    ),
  ])
}
