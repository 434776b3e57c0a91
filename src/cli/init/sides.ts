/** The sides of `agent-swarm init`: the ways to reach each, the answers that a way needs, and the checks that try them. */
import {
  checkApp,
  checkAppRepositories,
  checkToken,
  checkTokenRepositories,
  suggestRepositories,
} from '../../bot/github/check.ts'
import {
  checkJiraAccount,
  checkJiraAutomation,
  checkJiraProjects,
  checkJiraWebhook,
  suggestProjects,
} from '../../bot/jira/check.ts'
import { SCOPE_LIST } from '../../bot/jira/gateway.ts'
import { checkMachines } from './machines.ts'
import { createNewApp } from './new-app.ts'
import { APP, JIRA, JIRA_ACCOUNT, TOKEN } from './questions.ts'
import type { Side, Step, Way } from './steps.ts'

const repositories = (check: Step['check']): Step => ({
  ask: ['githubRepositories'],
  ...(check === undefined ? {} : { check }),
  suggest: suggestRepositories,
  needsEarlier: true,
})

const github: Side = {
  subject: 'GitHub',
  question: 'How does agent-swarm reach GitHub?',
  ways: {
    token: {
      label: 'With a personal token',
      hint: 'it polls every minute; no public address, no App',
      forget: APP,
      steps: [{ ask: ['githubToken'], check: checkToken }, repositories(checkTokenRepositories)],
    },
    'new-app': {
      label: 'With a new GitHub App',
      hint: 'GitHub creates it, and must reach the bot',
      steps: [{ ask: APP, create: createNewApp, check: checkApp }, repositories(checkAppRepositories)],
    },
    app: {
      label: 'With an existing GitHub App',
      hint: 'GitHub must reach the bot',
      forget: ['githubToken'],
      steps: [
        { ask: ['appId', 'privateKeyPath', 'webhookSecret'], check: checkApp },
        repositories(checkAppRepositories),
      ],
    },
    none: { label: 'Not at all', hint: 'Jira only', forget: [...APP, ...TOKEN] },
  },
  current: (has, isFirstRun) => (APP.some(has) ? 'app' : has('githubToken') || isFirstRun ? 'token' : 'none'),
}

/** Says how to get the account. The questions are the same for both. */
const chooseJiraAccount: Step['first'] = async ({ answers, say }, ask) => {
  if (JIRA_ACCOUNT.some(name => answers.flags.has(name)) || answers.values.has('jiraEmail')) return
  const account = await ask.choose(
    'As which Jira account does the bot work?',
    [
      { value: 'service', label: 'A service account', hint: 'comments are its own, and nobody has to be there for it' },
      { value: 'own', label: 'My own account', hint: 'the bot comments in your name' },
    ],
    'service',
  )
  if (account === 'service')
    say(
      `An administrator creates one at https://admin.atlassian.com (Directory, Service accounts), gives it access to Jira and to the projects, and creates an API token for it with ${SCOPE_LIST}.`,
    )
}

const jiraSteps: readonly Step[] = [
  { first: chooseJiraAccount, ask: JIRA_ACCOUNT, check: checkJiraAccount },
  { ask: ['jiraProjects'], check: checkJiraProjects, suggest: suggestProjects, needsEarlier: true },
  { ask: ['jiraAssignees'] },
]
const jira: Side = {
  subject: 'Jira',
  question: 'How does agent-swarm reach Jira Cloud?',
  ways: {
    polling: {
      label: 'It polls every minute',
      hint: 'no public address, no webhook',
      forget: ['jiraWebhookSecret', 'jiraAutomationSecret'],
      steps: jiraSteps,
    },
    webhook: {
      label: 'With a webhook',
      hint: 'Jira must reach the bot',
      steps: [...jiraSteps, { ask: ['publicUrl', 'jiraWebhookSecret'], check: checkJiraWebhook }],
    },
    automation: {
      label: 'It polls, and a rule of Jira automation tells of moves at once',
      hint: 'an administrator of the project makes the rule; Jira must reach the bot',
      forget: ['jiraWebhookSecret'],
      steps: [...jiraSteps, { ask: ['publicUrl', 'jiraAutomationSecret'], check: checkJiraAutomation }],
    },
    none: { label: 'Not at all', hint: 'GitHub only', forget: JIRA },
  },
  current: (has, isFirstRun) =>
    has('jiraWebhookSecret')
      ? 'webhook'
      : has('jiraAutomationSecret')
        ? 'automation'
        : JIRA_ACCOUNT.some(has) || isFirstRun
          ? 'polling'
          : 'none',
}
export const sides = { github, jira }

/** GitHub without Jira: the bot still has to know which keys are tickets. */
export const projectsOnly: Way = { steps: [{ ask: ['jiraProjects'] }] }
export const machines: Way = { steps: [{ ask: ['provider'], check: checkMachines }] }
