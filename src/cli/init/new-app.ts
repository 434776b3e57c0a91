/** Has GitHub create an App, in the browser, and keeps its key. */
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import * as v from 'valibot'
import { isInstalled } from '../../bot/github/check.ts'
import { fail } from '../../errors.ts'
import { writeFileAtomic } from '../../files.ts'
import { originUrl } from '../../schema/forms.ts'
import { printNote, type Terminal } from '../terminal/output.ts'
import { apiUrlOf, candidateOf, forget, howToGive, textOf, writeAnswers } from './answers.ts'
import { APP, questions, TOKEN } from './questions.ts'
import { type Setup, unlessCancelled } from './setup.ts'

const INSTALL_DEADLINE_MS = 10 * 60_000
const POLL_MS = 2_000

const showAddress = (terminal: Terminal, address: string) => {
  const { host, port } = new URL(address)
  printNote(`Open this address in a browser, and follow GitHub to the end:\n  ${address}`, terminal)
  printNote(`(Only this host can open it. From another one, first: ssh -L ${port}:${host} <this host>)`, terminal)
}

/** Returns false in a dry run, which creates none. */
export const createNewApp = async (setup: Setup): Promise<boolean> => {
  const { answers, ask, dryRun, invocation, say } = setup
  const { question = '', hint = '' } = questions.publicUrl
  const before = textOf(answers.values.get('publicUrl'))
  const publicUrl =
    answers.flags.has('publicUrl') || ask === null
      ? before
      : await ask.text(question, hint, before, text => v.safeParse(originUrl, text.trim()).issues?.[0].message)
  if (publicUrl === '')
    throw fail('usage', 'creating an App: the public address of the bot is missing', howToGive('publicUrl'))
  answers.values.set('publicUrl', v.parse(originUrl, publicUrl))
  const owner = String(
    invocation.flags.organization ??
      (await ask?.text('Which organization owns the App?', 'Empty: your account.', '', () => undefined)) ??
      '',
  ).trim()
  if (dryRun) {
    say('Without --dry-run, GitHub would now create an App from app.yml in your browser.')
    return false
  }
  const { createApp } = await import('../../bot/github/app-manifest.ts')
  const options = {
    apiUrl: apiUrlOf(answers),
    publicUrl: v.parse(originUrl, publicUrl),
    organization: owner || null,
    features: await candidateOf(answers),
  }
  const { appId, privateKey, webhookSecret, page } = await createApp(
    options,
    address => showAddress(invocation.terminal, address),
    invocation.signal,
  )
  // GitHub shows the key only once, so it is kept before anything else.
  const privateKeyPath = join(answers.home, `github-app-${appId}.pem`)
  writeFileAtomic(privateKeyPath, privateKey, { mode: 0o600 })
  forget(answers, [...APP, 'githubToken'])
  answers.values.set('appId', appId).set('privateKeyPath', privateKeyPath).set('webhookSecret', webhookSecret)
  await writeAnswers(answers, [...APP, ...TOKEN, 'githubApiUrl', 'publicUrl'])
  say(
    `Created the App, and wrote it to ${answers.file.path}, its key to ${privateKeyPath}. GitHub sends its events to ${new URL('/api/github/webhooks', options.publicUrl).href}. Install it on your repositories: ${page}/installations/new`,
  )
  const { github } = await candidateOf(answers)
  if (github?.via !== 'app') throw new Error('the new App is not in the configuration')
  const end = Date.now() + INSTALL_DEADLINE_MS
  while (!(await unlessCancelled(setup, isInstalled(github))) && Date.now() < end)
    await unlessCancelled(setup, delay(POLL_MS))
  return true
}
