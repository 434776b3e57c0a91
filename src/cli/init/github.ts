/** How the bot reaches GitHub: by a token and polling, by an App that is there, by an App that GitHub makes now. */
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import * as v from 'valibot'
import { problem } from '../../bot/check.ts'
import { checkApp, isInstalled, openTokenCheck } from '../../bot/github/check.ts'
import { webUrlOf } from '../../bot/github/client.ts'
import { fail } from '../../errors.ts'
import { writeFileAtomic } from '../../files.ts'
import { originUrl } from '../../schema/forms.ts'
import { printNote } from '../terminal/output.ts'
import { APP, howToGive, TOKEN } from './answers.ts'
import type { Desk } from './desk.ts'

/** How long somebody has for installing an App that was just made, and between two looks. Milliseconds. */
const INSTALL_WITHIN_MS = 10 * 60_000
const LOOK_EVERY_MS = 2_000

const apiUrlOf = ({ answers }: Desk): string | null => {
  const url = answers.get('githubApiUrl')
  return typeof url === 'string' ? url : null
}

const byToken = async (desk: Desk) => {
  const { answers, ask, settle, unlessCancelled } = desk
  answers.forget(APP)
  const opened = async () => {
    const { github } = await answers.candidate()
    return github?.via === 'token' ? openTokenCheck(github) : null
  }
  const known = await settle(
    again =>
      answers.secret('githubToken', {
        question: 'Your GitHub token',
        where: `Make one: ${webUrlOf(apiUrlOf(desk))}/settings/tokens/new?scopes=repo&description=agent-swarm (or a fine-grained one: contents read, issues and pull requests write).`,
        again,
      }),
    async () => (await opened())?.account() ?? [problem('GitHub', 'there is no token', howToGive('githubToken'))],
  )
  const check = known ? await opened() : null
  const pushable = ask === null || check === null ? [] : await unlessCancelled(check.pushable())
  await settle(
    again =>
      answers.text('githubRepositories', {
        question: 'Which repositories are watched?',
        where: `As owner/name, with commas. Nothing: the 20 that were pushed to last.${
          pushable.length === 0 ? '' : ` You may push to ${pushable.join(', ')}.`
        }`,
        again,
        optional: true,
      }),
    async () => (known ? ((await opened())?.repositories() ?? []) : []),
  )
}

const byApp = async ({ answers, settle }: Desk) => {
  answers.forget(TOKEN)
  await settle(
    async again => {
      await answers.text('appId', { question: "The App's id", where: 'It stands on its settings page.', again })
      if (!answers.has('privateKey'))
        await answers.text('privateKeyPath', {
          question: 'The file of its private key',
          where: 'Its settings page makes one, and the browser saves it as ….private-key.pem.',
          again,
        })
      await answers.secret('webhookSecret', {
        question: 'Its webhook secret',
        where: "The one that was typed on the App's settings page.",
        again,
      })
    },
    async () => {
      const { github, botProblems } = await answers.candidate()
      if (github?.via === 'app') return checkApp(github)
      const problems = botProblems.filter(one => one.startsWith('GitHub: ')).map(one => one.slice('GitHub: '.length))
      return (problems.length > 0 ? problems : ['there is no App']).map(one =>
        error('GitHub', one, 'Or have a new one made: --github new-app'),
      )
    },
  )
}

const askPublicUrl = async ({ ask, flags }: Desk): Promise<string> => {
  const problem = (text: string) => v.safeParse(originUrl, text.trim()).issues?.[0].message
  const given = flags['public-url']
  if (ask === null || typeof given === 'string') {
    const wrong = problem(typeof given === 'string' ? given : '')
    if (wrong !== undefined)
      throw fail('usage', `--public-url ${wrong}: it is where GitHub reaches this bot, as https://swarm.example.org`)
    return v.parse(originUrl, given)
  }
  const typed = await ask.text(
    'Under which address does GitHub reach this bot?',
    'A name with HTTPS in front of the bot, as https://swarm.example.org. What listens there may come later.',
    '',
    problem,
  )
  return v.parse(originUrl, typed)
}
const askOrganization = async ({ ask, flags }: Desk): Promise<string | null> => {
  const { organization } = flags
  const named =
    typeof organization === 'string'
      ? organization
      : await ask?.text('Which organisation owns the App?', 'Nothing: your own account.', '', () => undefined)
  return named === undefined || named === '' ? null : named
}

const byNewApp = async (desk: Desk) => {
  const { answers, dryRun, home, note, say, signal, unlessCancelled } = desk
  const publicUrl = await askPublicUrl(desk)
  const organization = await askOrganization(desk)
  if (dryRun) {
    say('GitHub would be asked, in your browser, to make an App of app.yml. A dry run makes none.')
    return
  }
  const { makeApp } = await import('../../bot/github/app-manifest.ts')
  const made = await makeApp({
    apiUrl: apiUrlOf(desk),
    publicUrl,
    organization,
    tell: at => {
      const { host, port } = new URL(at)
      printNote(`Open this in a browser, and follow GitHub to the end:\n  ${at}`)
      printNote(`(It is on this machine alone. From another one, before: ssh -L ${port}:${host} <this machine>)`)
    },
    signal,
  })
  // GitHub gives the key this once: it is kept at once.
  const key = join(home, `github-app-${made.appId}.pem`)
  writeFileAtomic(key, made.privateKey, { mode: 0o600 })
  answers.forget([...APP, ...TOKEN])
  answers.set('appId', made.appId)
  answers.set('privateKeyPath', key)
  answers.set('webhookSecret', made.webhookSecret)
  await answers.write([...APP, ...TOKEN, 'githubApiUrl'])
  say(`The App is made, and ${answers.path} has it. Install it on your repositories: ${made.page}/installations/new`)
  const { github } = await answers.candidate()
  if (github?.via !== 'app') throw new Error('the App that was made is not in the configuration')
  const end = Date.now() + INSTALL_WITHIN_MS
  while (!(await unlessCancelled(isInstalled(github))) && Date.now() < end) await unlessCancelled(delay(LOOK_EVERY_MS))
  note(await unlessCancelled(checkApp(github)))
}

const ways = {
  token: {
    label: 'By a personal token',
    hint: 'it looks every minute; no public address, no App',
    settle: byToken,
  },
  'new-app': { label: 'By a new GitHub App', hint: 'GitHub makes it, and has to reach the bot', settle: byNewApp },
  app: { label: 'By a GitHub App that is there', hint: 'GitHub has to reach the bot', settle: byApp },
  none: {
    label: 'Not at all',
    hint: 'Jira alone',
    settle: async ({ answers }) => answers.forget([...APP, ...TOKEN]),
  },
} satisfies Record<string, { label: string; hint: string; settle: (desk: Desk) => Promise<void> }>
type Way = keyof typeof ways

/** Whether GitHub is reached at all. */
export const setUpGitHub = async (desk: Desk): Promise<boolean> => {
  const { answers, ask } = desk
  const way = await answers.choose<Way>(
    'github',
    'How does agent-swarm reach GitHub?',
    (Object.keys(ways) as Way[]).map(value => ({ value, label: ways[value].label, hint: ways[value].hint })),
    APP.some(answers.has) ? 'app' : answers.has('githubToken') || (ask !== null && answers.isNew()) ? 'token' : 'none',
  )
  await ways[way].settle(desk)
  return way !== 'none'
}
