/**
 * Polls GitHub. What a poll finds becomes deliveries in the shape of webhooks, in the same inbox. Each repository costs three
 * requests a round, and one for its rules when a branch has moved. A response without news is a 304, which counts against no
 * limit. That something is absent proves nothing.
 */

import type { Rules } from '../../../handlers/handler.ts'
import { boundedWait } from '../../backoff.ts'
import { ticketOfBranch } from '../../branches.ts'
import { isWithin } from '../../clock.ts'
import type { PolledDelivery } from '../catch-up.ts'
import { ticketOf } from '../present-ticket.ts'
import { isRefused } from '../remote-failure.ts'
import { githubFailure, type Octokit, parts } from './client.ts'
import { compareOnGitHub } from './compare.ts'
import { pollAgents } from './poll-agents.ts'
import { isRateLow, openPollRequests, type PollContext, readPages } from './poll-requests.ts'
import { commentDelivery, iso, missedChange, pullRequestDelivery, pushDelivery } from './polled.ts'
import { pullRequestNow } from './pull-request.ts'

/** How often the repositories to watch, and their present names, are read again. */
const CHOOSE_EVERY_MS = 10 * 60_000
/** Repositories that are polled at once. */
const LIMIT = 4
/** GitHub's lists may be this late. */
const OVERLAP_MS = 2 * 60_000
/** The cursor of comments moves at least this often, so that what a poll looks back on is still known to the inbox. */
const MOVE_CURSOR_MS = 60 * 60_000
const HEADS = 'refs/heads/'

/** `agents`: what agents are told (poll-agents.ts). */
export type PolledPart = 'pushes' | 'comments' | 'pulls' | 'agents'
/** How far a repository was read, ISO 8601 of GitHub's clock. What is older than `began` existed before us, and is not acted on. */
type Cursor = { began: string; comments: string; pulls: string }

/** `taken`: call it when the deliveries are on disk. */
type Polled = { deliveries: PolledDelivery[]; taken: () => Promise<void> | void }

const pollPushes = async (
  { store, requests, rulesOf, rulesChanged }: PollContext,
  repo: string,
  octokit: Octokit,
  isFirst: boolean,
): Promise<Polled | null> => {
  const page = await requests.get({ what: `${repo} heads`, variant: '' }, headers =>
    octokit.rest.git.listMatchingRefs({ ...parts(repo), ref: 'heads/', headers }),
  )
  if (page === null) return null
  // The default branch may have moved, with other rules: they are in effect for what is found now.
  await rulesChanged(repo)
  const rules = await rulesOf(repo)
  const known = await store.repositories.heads(repo)
  const moved = page.data
    .filter(({ ref }) => ref.startsWith(HEADS) && ticketOfBranch(ref.slice(HEADS.length), rules) !== null)
    .filter(({ ref, object }) => known.get(ref) !== object.sha)
  return {
    deliveries: isFirst ? [] : moved.map(({ ref, object }) => pushDelivery(repo, ref, object.sha)),
    taken: async () => {
      for (const { ref, object } of moved) await store.repositories.setHead(repo, ref, object.sha)
      page.taken()
    },
  }
}

/** The last change of these, or `since`, whichever is later. */
const latest = (entries: readonly { updated_at: string }[], since: string): string =>
  entries.reduce((newest, { updated_at }) => (updated_at > newest ? updated_at : newest), since)

const pollComments = async (
  { requests, clock }: PollContext,
  repo: string,
  octokit: Octokit,
  { began, comments: since }: Cursor,
): Promise<(Polled & { cursor: string }) | null> => {
  // The cursor moves by GitHub's clock, which only an answer with content brings.
  const isOld = clock() - Date.parse(since) > MOVE_CURSOR_MS
  const condition = isOld ? null : { what: `${repo} comments`, variant: since }
  const pages = await readPages(requests, condition, (page, headers) =>
    octokit.rest.issues.listCommentsForRepo({
      ...parts(repo),
      ...{ since, sort: 'updated', direction: 'desc', per_page: 100, page, headers },
    }),
  )
  if (pages === null) return null
  const { data, now, taken } = pages
  const deliveries = data
    // Compared as times: with a fraction of a second, the later text would sort first.
    .filter(comment => Date.parse(comment.created_at) >= Date.parse(began))
    .flatMap(comment => commentDelivery(repo, comment) ?? [])
  const newest = latest(data, since)
  const lagging = iso(Date.parse(newest) - OVERLAP_MS)
  const isStale = now - Date.parse(since) > MOVE_CURSOR_MS
  const cursor = isStale ? iso(now - OVERLAP_MS) : lagging > since ? lagging : since
  return { deliveries: deliveries.reverse(), cursor, taken }
}

const pollPullRequests = async (
  { store, requests }: PollContext,
  repo: string,
  octokit: Octokit,
  rules: Rules,
  cursor: Cursor | null,
): Promise<(Polled & { now: number; newest: string }) | null> => {
  // The first poll reads the open ones: what had ended before was not ours.
  const state = cursor === null ? 'open' : 'all'
  const from = cursor === null ? '' : iso(Date.parse(cursor.pulls) - OVERLAP_MS)
  const pages = await readPages(
    requests,
    { what: `${repo} pulls`, variant: state },
    (page, headers) =>
      octokit.rest.pulls.list({
        ...parts(repo),
        ...{ state, sort: 'updated', direction: 'desc', per_page: 100, page, headers },
      }),
    last => last.updated_at >= from,
  )
  if (pages === null) return null
  const { data, now, taken } = pages
  const installation = await store.repositories.installation(repo)
  const began = cursor === null ? now : Date.parse(cursor.began)
  const deliveries: PolledDelivery[] = []
  for (const listed of data.filter(({ updated_at }) => updated_at >= from)) {
    const pullRequest = pullRequestNow(listed)
    const known = await store.pullRequests.get({ repo, number: listed.number })
    const ticket = await ticketOf({ store }, pullRequest, rules)
    const change = missedChange(pullRequest, known, ticket, began)
    if (change !== null) deliveries.push(pullRequestDelivery(repo, listed, change, known, installation))
  }
  return { deliveries: deliveries.reverse(), now, newest: latest(data, cursor?.pulls ?? ''), taken }
}

const pollRepository = async (context: PollContext, wanted: readonly PolledPart[], repo: string): Promise<void> => {
  const { github, store, rulesOf, clock, log } = context
  const octokit = await github.clientFor(repo)
  if (octokit === null) return
  // Changing between webhooks and polls starts anew: the cursor of the other way is long out of date.
  const key = `${wanted.includes('comments') ? 'github' : 'github-app'}:${repo}`
  const cursor = await store.cursors.get<Cursor>(key)
  // A part that cannot be read holds up no other; it is read at the next poll.
  let firstFailure: unknown = null
  const read = async <T>(part: PolledPart, poll: () => Promise<T | null>): Promise<T | null> => {
    if (!wanted.includes(part)) return null
    try {
      return await poll()
    } catch (error) {
      const failure = githubFailure(error, `polling ${repo}`, clock())
      if (!isRefused(failure)) throw failure
      firstFailure ??= failure
      return null
    }
  }
  const pushes = await read('pushes', () => pollPushes(context, repo, octokit, cursor === null))
  const rules = await rulesOf(repo)
  // Comments come before pull requests, so that a command that was given before a merge is decided before it.
  const comments = cursor === null ? null : await read('comments', () => pollComments(context, repo, octokit, cursor))
  const pulls = await read('pulls', () => pollPullRequests(context, repo, octokit, rules, cursor))
  const polled = [pushes, comments, pulls].filter(part => part !== null)
  await context.accept(polled.flatMap(({ deliveries }) => deliveries))
  for (const { taken } of polled) await taken()
  if (cursor === null && pulls !== null) {
    // GitHub's times are whole seconds: what belongs to the second of our first poll may be older than it.
    const now = iso(pulls.now + 1_000)
    await store.cursors.set(key, { began: now, comments: now, pulls: now } satisfies Cursor)
    log.info(
      { repo, open: pulls.deliveries.length, happened: 'watching' },
      `watching ${repo} on GitHub; earlier comments there are not acted on`,
    )
  } else if (cursor !== null) {
    const next: Cursor = {
      ...cursor,
      comments: comments?.cursor ?? cursor.comments,
      pulls: pulls?.newest ?? cursor.pulls,
    }
    if (next.comments !== cursor.comments || next.pulls !== cursor.pulls) await store.cursors.set(key, next)
  }
  if (firstFailure !== null) throw firstFailure
}

export const openGitHubPoll = ({
  parts: wanted,
  everyMs,
  ...tools
}: Omit<PollContext, 'requests'> & {
  /** What is polled. With webhooks it is pull requests alone: GitHub delivers missed pushes and comments again. */
  parts: readonly PolledPart[]
  everyMs: number
}) => {
  const { github, clock, log } = tools
  const requests = openPollRequests({ everyMs, clock, log })
  const context: PollContext = { ...tools, requests }
  let watched: string[] = []
  let choseAt = Number.NEGATIVE_INFINITY
  let comparedTo = ''

  const choose = async (): Promise<void> => {
    if (isWithin(choseAt, CHOOSE_EVERY_MS, clock())) return
    const chosen = await github.repositories()
    choseAt = clock()
    if (chosen.join() !== watched.join()) log.info({ repositories: chosen }, 'watching on GitHub')
    watched = chosen
  }

  return {
    /** Polls every repository once. Returns the milliseconds until the next round. */
    round: async (): Promise<number> => {
      await requests.attempt('reading which repositories to watch on GitHub', choose)
      const left = [...watched]
      const worker = async () => {
        for (let repo = left.shift(); repo !== undefined; repo = left.shift()) {
          const name = repo
          await requests.attempt(`polling ${name}`, () => pollRepository(context, wanted, name))
        }
      }
      await Promise.all(Array.from({ length: LIMIT }, worker))
      if (wanted.includes('agents')) await pollAgents(context)
      const rate = github.rate()
      if (rate !== null && isRateLow(github, clock())) {
        log.warn({ ...rate }, 'few GitHub requests are left: polling pauses until the rate limit resets')
        requests.restUntil(clock() + boundedWait(rate.resetAt - clock()))
      }
      return requests.wait()
    },
    /** Reads the pull requests of tickets that have a machine, by their numbers: one request each, usually a 304. */
    compare: async (): Promise<void> => {
      comparedTo = await compareOnGitHub(context, comparedTo)
    },
  }
}
