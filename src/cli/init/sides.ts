/** The sides of `agent-swarm init`: the ways to reach each, the answers that a way needs, and the checks that try them. */
import { appChecks, tokenChecks } from '../../bot/github/check.ts'
import { jiraChecks } from '../../bot/jira/check.ts'
import { machineChecks } from './machines.ts'
import { createNewApp } from './new-app.ts'
import { APP, JIRA, JIRA_ACCOUNT, TOKEN } from './questions.ts'
import type { Side, Way } from './steps.ts'

const github: Side = {
  question: 'How does agent-swarm reach GitHub?',
  ways: {
    token: {
      label: 'With a personal token',
      hint: 'it polls every minute; no public address, no App',
      forget: APP,
      checks: tokenChecks,
      steps: [['githubToken'], ['githubRepositories']],
    },
    'new-app': {
      label: 'With a new GitHub App',
      hint: 'GitHub creates it, and must reach the bot',
      checks: appChecks,
      run: createNewApp,
    },
    app: {
      label: 'With an existing GitHub App',
      hint: 'GitHub must reach the bot',
      forget: TOKEN,
      checks: appChecks,
      steps: [['appId', 'privateKeyPath', 'webhookSecret']],
    },
    none: { label: 'Not at all', hint: 'Jira only', forget: [...APP, ...TOKEN] },
  },
  current: (has, isFirstRun) => (APP.some(has) ? 'app' : has('githubToken') || isFirstRun ? 'token' : 'none'),
}

const jiraSteps = [JIRA_ACCOUNT, ['jiraProjects'], ['jiraAssignees']] as const
const jira: Side = {
  question: 'How does agent-swarm reach Jira Cloud?',
  ways: {
    polling: {
      label: 'It polls every minute',
      hint: 'no public address, no webhook',
      forget: ['jiraWebhookSecret'],
      checks: jiraChecks,
      steps: jiraSteps,
    },
    webhook: {
      label: 'With a webhook',
      hint: 'Jira must reach the bot',
      checks: jiraChecks,
      steps: [...jiraSteps, ['jiraWebhookSecret']],
    },
    none: { label: 'Not at all', hint: 'GitHub only', forget: JIRA },
  },
  current: (has, isFirstRun) =>
    has('jiraWebhookSecret') ? 'webhook' : JIRA_ACCOUNT.some(has) || isFirstRun ? 'polling' : 'none',
}
export const sides = { github, jira }

/** GitHub without Jira: the bot still has to know which keys are tickets. */
export const projectsOnly: Way = { steps: [['jiraProjects']] }
export const machines: Way = { checks: machineChecks, steps: [['provider']] }
