/** Takes one side of `agent-swarm init` through its questions and checks, until the answers work or the person goes on. */
import { randomBytes } from 'node:crypto'
import { webUrlOf } from '../../bot/github/client.ts'
import { type Check, type Finding, hasError, problem } from '../../check.ts'
import type { Config } from '../../config/config.ts'
import { settings } from '../../config/settings.ts'
import { parseSetting } from '../../config/values.ts'
import { failureOf } from '../../errors.ts'
import type { Ask } from '../terminal/prompt.ts'
import {
  type Answers,
  apiUrlOf,
  candidateOf,
  forget,
  howToGive,
  isMissing,
  isSecret,
  parseAnswer,
  textOf,
} from './answers.ts'
import { chooseProvider } from './machines.ts'
import { type AnswerName, questions } from './questions.ts'
import { type Setup, show, unlessCancelled } from './setup.ts'

/** Answers that are asked and checked together, and asked again together. */
export type Step = {
  ask: readonly AnswerName[]
  /** What comes before the questions, once, on a terminal. */
  first?: (setup: Setup, ask: Ask) => Promise<void>
  /** Has the answers made instead of asking for them. Returns whether it did. */
  create?: (setup: Setup) => Promise<boolean>
  check?: (config: Config, signal: AbortSignal, platform: NodeJS.Platform) => Promise<Finding[]>
  /** The check relies on the steps before it. */
  needsEarlier?: true
  /** Values that are known to work, offered in the question. */
  suggest?: (config: Config) => Promise<string[]>
}
export type Way = {
  /** Answers that belong to other ways. */
  forget?: readonly AnswerName[]
  steps?: readonly Step[]
}
export type Side = {
  subject: string
  question: string
  ways: Readonly<Record<string, Way & { label: string; hint: string }>>
  /** The way that the existing answers belong to. */
  current(has: (name: AnswerName) => boolean, isFirstRun: boolean): string
}

/** Keeps checks, and shows them. */
export const record = (setup: Setup, checks: readonly Check[]) => {
  show(setup, checks)
  setup.checks.push(...checks)
}

/** Tries the answers of a step, and corrects them where a check knows better. `isUsable`: earlier steps have no error. */
const checkStep = async (setup: Setup, subject: string, step: Step, isUsable: boolean): Promise<Check[]> => {
  const { ask, check, needsEarlier } = step
  const { answers, invocation, next } = setup
  const missing = ask.filter(name => isMissing(answers, name))
  const config = await candidateOf(answers)
  const incomplete = config.botProblems.filter(text => text.startsWith(`${subject}: `))
  const findings =
    missing.length > 0
      ? missing.map(name => problem(`${settings[name].env} is missing`, howToGive(name)))
      : incomplete.length > 0
        ? incomplete.map(text => problem(text.slice(subject.length + 2), null))
        : needsEarlier && !isUsable
          ? []
          : ((await check?.(config, invocation.signal, invocation.terminal.platform)) ?? [])
  return findings.map(({ correction, next: command, ...finding }: Finding): Check => {
    if (correction !== undefined) answers.values.set(...correction)
    if (command !== undefined) next.add(command)
    return { subject, ...finding }
  })
}

const askText = async (ask: Ask, answers: Answers, name: AnswerName) => {
  const { question, hint = '', empty, unless } = questions[name]
  const { values } = answers
  if (question === undefined || (unless !== undefined && values.has(unless))) return
  const keep = isSecret(name) && values.has(name)
  const validate = (typed: string) => {
    if (typed.trim() === '') return keep || empty !== undefined ? undefined : 'An answer is required.'
    const answer = parseSetting(name, typed)
    return 'problem' in answer ? answer.problem : undefined
  }
  const hints = [hint.replace('{web}', webUrlOf(apiUrlOf(answers)))]
  if (keep) hints.push('Enter keeps the current one.')
  else if (empty === 'a new secret') hints.push('Enter creates one.')
  const typed = isSecret(name)
    ? await ask.secret(question, hints.join('\n'), validate)
    : await ask.text(question, hints.join('\n'), textOf(values.get(name)), validate)
  if (typed !== '') values.set(name, parseAnswer(name, typed, question))
  else if (!keep) values.delete(name)
}

const TYPE_THEM = ''
/** Chosen from values that are known to work and from the present ones; others can be typed. */
const askList = async (ask: Ask, answers: Answers, name: AnswerName, suggestions: readonly string[]) => {
  const { question = '', empty } = questions[name]
  const current = answers.values.get(name)
  const present = Array.isArray(current) ? current.map(String) : []
  const values = [...new Set([...present, ...suggestions])]
  const chosen = await ask.chooseMany(
    question,
    [...values.map(value => ({ value, label: value })), { value: TYPE_THEM, label: 'Others: type the names' }],
    present.length === 0 && suggestions.length === 1 ? values : present,
    empty === undefined,
  )
  const known = chosen.filter(value => value !== TYPE_THEM)
  if (known.length === 0) answers.values.delete(name)
  else answers.values.set(name, parseAnswer(name, known.join(','), question))
  if (chosen.includes(TYPE_THEM)) await askText(ask, answers, name)
}

/** Nobody assigns tickets to one by habit. */
const SERVICE_ACCOUNT = '@serviceaccount.atlassian.com'
const chooseAssignees = async (ask: Ask, { values }: Answers) => {
  const current = values.get('jiraAssignees')
  if (Array.isArray(current)) return
  const isService = String(values.get('jiraEmail')).endsWith(SERVICE_ACCOUNT)
  const choices = [
    { value: 'me', label: `Those assigned to ${values.get('jiraEmail')}` },
    { value: 'any', label: 'All tickets of these projects', hint: 'for the bot of a team' },
  ] as const
  const assignees = await ask.choose(
    'Which tickets get machines?',
    choices,
    current === 'any' || isService ? 'any' : 'me',
  )
  // The default is not written.
  if (assignees !== 'me' || current !== undefined) values.set('jiraAssignees', assignees)
}

const askFor = async (setup: Setup, { suggest }: Step, name: AnswerName, again: boolean) => {
  const { ask, answers } = setup
  if (ask !== null && (again || !answers.flags.has(name))) {
    const suggestions = async () => (await suggest?.(await candidateOf(answers)).catch(() => [])) ?? []
    if (name === 'provider') await chooseProvider(setup, ask)
    else if (name === 'jiraAssignees') await chooseAssignees(ask, answers)
    else {
      const suggested = await unlessCancelled(setup, suggestions())
      await (suggested.length > 0 ? askList : askText)(ask, answers, name, suggested)
    }
  }
  if (questions[name].empty === 'a new secret' && !answers.values.has(name))
    answers.values.set(name, randomBytes(32).toString('hex'))
}

/** On a terminal, a failure is shown, and a person may try again: the answers before it are not lost. */
const create = async (setup: Setup, subject: string, { create }: Step): Promise<boolean | 'failed' | undefined> => {
  while (true) {
    try {
      return await create?.(setup)
    } catch (error) {
      const { kind, message, remedy } = failureOf(error, 'creating the App')
      if (setup.ask === null || kind === 'cancelled') throw error
      const checks = [{ subject, ...problem(message, remedy) }]
      show(setup, checks)
      if (await setup.ask.agree('Try again?', true)) continue
      setup.checks.push(...checks)
      return 'failed'
    }
  }
}

/** Returns whether its answers have no error. */
const takeStep = async (setup: Setup, subject: string, step: Step, isUsable: boolean): Promise<boolean> => {
  if (setup.ask !== null) await step.first?.(setup, setup.ask)
  const isCreated = await create(setup, subject, step)
  if (isCreated === 'failed') return false
  if (isCreated === false) return true
  for (let again = false; ; again = true) {
    if (isCreated === undefined) for (const name of step.ask) await askFor(setup, step, name, again)
    const checks = await unlessCancelled(setup, checkStep(setup, subject, step, isUsable))
    show(setup, checks)
    if (isCreated === undefined && hasError(checks) && (await setup.ask?.agree('Answer again?', true))) continue
    setup.checks.push(...checks)
    return !hasError(checks)
  }
}

export const takeWay = async (
  setup: Setup,
  subject: string,
  { forget: others = [], steps = [] }: Way,
): Promise<void> => {
  forget(setup.answers, others)
  let isUsable = true
  for (const step of steps) isUsable = (await takeStep(setup, subject, step, isUsable)) && isUsable
}

/** Returns the name of the way that was taken. */
export const setUpSide = async (
  setup: Setup,
  flag: string,
  { subject, question, ways, current }: Side,
): Promise<string> => {
  const { ask, answers, invocation } = setup
  const initial = current(name => answers.values.has(name), ask !== null && answers.file.content === null)
  const choices = Object.entries(ways).map(([value, { label, hint }]) => ({ value, label, hint }))
  const name = String(invocation.flags[flag] ?? (await ask?.choose(question, choices, initial)) ?? initial)
  await takeWay(setup, subject, ways[name] as Way)
  return name
}
