/** The messages to an agent about reviews and failed checks. The words of others are quoted, so that nothing of them looks like ours. */
import type { Ticket } from '../src/domain.ts'
import type { PullRequestRef, Requester } from '../src/schema/action.ts'
import type { Environment } from '../src/schema/environment.ts'
import { act, type Decision, type FailedCheck, ignored, type ReviewComment, type Rules, roundsOf } from './handler.ts'

/** In characters: of one text, and of the whole message. */
const MAX_TEXT = 2_000
const MAX_MESSAGE = 18_000
const MAX_ITEMS = 50

const cut = (text: string, most: number): string => (text.length > most ? `${text.slice(0, most)} …` : text)
const NO_TEXT = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}]/gu
const oneLine = (text: string): string => cut(text.replaceAll(/\s+/g, ' ').replaceAll(NO_TEXT, '').trim(), 300)
/** Each line begins with `> `. */
const quoted = (text: string): string =>
  cut(text, MAX_TEXT)
    .split(/\r\n|\r|\n|\u2028|\u2029/)
    .map(line => `> ${line.replaceAll('\t', '  ').replaceAll(NO_TEXT, '')}`)
    .join('\n')

/** Whole parts, as many as fit. */
const joined = (parts: readonly string[], end: string): string => {
  const shown: string[] = []
  let left = MAX_MESSAGE
  for (const part of parts.slice(0, MAX_ITEMS)) {
    if (part.length + 2 > left) break
    left -= part.length + 2
    shown.push(part)
  }
  const more = parts.length - shown.length
  return [...shown, ...(more > 0 ? [`${more} more are left out here.`] : []), end].join('\n\n')
}

export const reviewMessage = (
  { repo, number }: PullRequestRef,
  { author, body }: { author: string; body: string },
  comments: readonly ReviewComment[],
): string =>
  joined(
    [
      `${oneLine(author)} reviewed ${repo}#${number} and asks for changes. Lines that begin with ">" are quoted from the review.`,
      ...(body.trim() === '' ? [] : [quoted(body)]),
      ...comments.map(
        ({ path, line, body: text }) =>
          `On ${JSON.stringify(oneLine(path))}${line === null ? '' : `, line ${line}`}:\n${quoted(text)}`,
      ),
    ],
    'Make the changes that the review asks for and that belong to the ticket. Then commit and push to the same branch.',
  )

export const checksMessage = (
  { repo, commit }: { repo: string; commit: string },
  failed: readonly FailedCheck[],
): string =>
  joined(
    [
      `Checks of the commit ${commit.slice(0, 12)} in ${repo} failed. Lines that begin with ">" are quoted from them.`,
      ...failed.map(({ name, conclusion, url, summary }) =>
        quoted(
          [
            `${oneLine(name)}: ${oneLine(conclusion)}`,
            ...(url === null ? [] : [oneLine(url)]),
            ...(summary === null || summary.trim() === '' ? [] : [summary]),
          ].join('\n'),
        ),
      ),
    ],
    'Find out why, and correct it. Then commit and push to the same branch.',
  )

/** Why nothing is passed on to the agent of the ticket; null when something may be. */
export const whyNotTold = (ticket: Ticket, environment: Environment | null): string | null => {
  if (environment === null) return `${ticket} has no machine`
  if (environment.agent === undefined) return `${ticket} has no agent`
  return environment.agent.result === 'stopped' ? `somebody stopped the agent of ${ticket}` : null
}

/** Tells the agent, or, when it was told as often as the rules allow, the people. */
export const passOn = (
  { ticket, by, text }: { ticket: Ticket; by: Requester; text: string },
  { told, pullRequest }: { told: number; pullRequest: PullRequestRef | null },
  rules: Rules,
): Decision => {
  if (told < roundsOf(rules)) return act([{ kind: 'tell', ticket, by, replyTo: null, text, round: told + 1 }])
  return pullRequest === null
    ? ignored(`the agent of ${ticket} was told ${told} times, which is the most`)
    : act([], { announcements: [{ kind: 'rounds-over', ticket, pullRequest, told }] })
}
