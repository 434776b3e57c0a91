/**
 * Polls GitHub for those who have a token and no App. What a poll finds becomes deliveries in the shape of webhooks, with ids
 * that the next poll repeats, in the same inbox. Each repository costs three requests a round, and one for its rules where a
 * branch has moved; one that brings nothing new is answered 304 and counts against no limit. That something is absent is no
 * evidence for anything.
 */
import { isBranchServed, ticketOfPullRequest } from '../../../handlers/branches.ts'
import type { PullRequestNow, Rules } from '../../../handlers/handler.ts'
import { findTicket } from '../../domain.ts'
import type { Log } from '../../log.ts'
import type { Delivery } from '../../store/port.ts'
import type { Memory } from '../../store/sqlite/memory.ts'
import type { KnownPullRequest } from '../../store/sqlite/pull-requests.ts'
import { asNow, type PullRequestData, parts } from '../inbox/facts.ts'
import { boundedWait, openProblemLog } from '../poll-loop.ts'
import { isMarked } from '../publish/render.ts'
import { type GitHub, githubFailure, isGitHubFailure, type Octokit, statusOf } from './client.ts'
import { githubLane } from './events.ts'

/** How often is looked which repositories these are, or how those of the list are called now. */
const CHOOSE_EVERY_MS = 10 * 60_000
const AT_ONCE = 4
/** So many pull requests are compared in one round; the next one goes on behind them. */
const COMPARED_AT_ONCE = 100
/** What GitHub lists may lag behind what it stored. */
const OVERLAP_MS = 2 * 60_000
/** The cursor of comments moves at least so often: what it looks back on stays well within what the inbox remembers. */
const MOVE_CURSOR_MS = 60 * 60_000
/** So much of the hour's requests is left to acting and answering. */
const RESERVE = 0.1
const HEADS = 'refs/heads/'
const iso = (at: number) => `${new Date(at).toISOString().slice(0, 19)}Z`

type ListedPullRequest = PullRequestData & { number: number; updated_at: string }
type ListedComment = {
  id: number
  body?: string | null
  user: { login: string; type: string } | null
  performed_via_github_app?: unknown
  html_url: string
  issue_url: string
  created_at: string
  updated_at: string
}

/** How far a repository was read, ISO 8601 of GitHub's clock. `began`: what is older was there before us, and is not acted on. */
type Place = { began: string; comments: string; pulls: string }

/** What the last decided event did not tell of a pull request that is so now, as the action of a webhook; null when it told all. */
const untold = (
  now: PullRequestNow,
  known: KnownPullRequest | null,
  ticket: string | null,
  began: number,
): 'opened' | 'reopened' | 'edited' | 'closed' | null => {
  if (known === null) {
    if (ticket === null || now.fromFork) return null
    if (now.state === 'open') return 'opened'
    // It came and went between two looks. What was over before the first one is nobody's news.
    return now.closedAt !== null && now.closedAt >= began ? 'closed' : null
  }
  const settled = known.settled?.state ?? null
  if (now.state !== 'open') return settled === now.state ? null : 'closed'
  if (settled === null) return 'opened'
  if (settled !== 'open') return 'reopened'
  return known.ticket === ticket ? null : 'edited'
}

/** The delivery that tells so. `about` is its id. `installation`: of the App on the repository, by which it is decided. */
const pullRequestDelivery = (
  repo: string,
  data: ListedPullRequest,
  action: NonNullable<ReturnType<typeof untold>>,
  known: KnownPullRequest | null,
  installation: number | null,
): Pick<Delivery, 'event' | 'lane' | 'body'> & { about: string } => {
  // Nobody tells when it was reopened: not before its close was settled.
  const at = action === 'reopened' && known?.settled ? iso(known.settled.at) : data.updated_at
  const { number, title, body, head } = data
  const payload = {
    action,
    repository: { full_name: repo },
    pull_request: {
      number,
      title,
      body,
      updated_at: at,
      head: { ref: head.ref, repo: head.repo === null ? null : { full_name: head.repo.full_name } },
    },
    sender: null,
    installation: installation === null ? null : { id: installation },
  }
  return {
    event: 'pull_request',
    lane: githubLane('pull_request', payload),
    body: JSON.stringify(payload),
    about: `${repo}#${number}:${action}:${action === 'closed' ? data.closed_at : at}`,
  }
}

type Part = 'pushes' | 'comments' | 'pulls'

export const openGitHubPoll = ({
  github,
  parts: wanted,
  memory,
  rulesOf,
  rulesChanged,
  everyMs,
  clock,
  log,
  accept,
}: {
  github: GitHub
  /** What is looked for. Where there are webhooks, what was pushed and said is sent again when it was missed. */
  parts: readonly Part[]
  memory: Memory
  rulesOf: (repo: string) => Promise<Rules>
  /** Branches of a repository have moved. */
  rulesChanged: (repo: string) => Promise<void>
  everyMs: number
  clock: () => number
  log: Log
  /** Puts deliveries on disk. */
  accept: (deliveries: readonly Delivery[]) => void
}) => {
  /** The validator of the last answer that was taken over, by what was asked. */
  const tags = new Map<string, { part: string; tag: string }>()
  let watched: string[] = []
  let choseAt = Number.NEGATIVE_INFINITY
  let notBefore = 0
  /** Seconds, as GitHub last asked for. */
  let interval = 0
  const told = openProblemLog(log)

  const delivery = (id: string, rest: Pick<Delivery, 'event' | 'lane' | 'body'>): Delivery => ({
    source: 'github',
    id: `poll:${id}`,
    event: rest.event,
    lane: rest.lane,
    body: rest.body,
    receivedAt: clock(),
  })

  /** What was asked, and for which part of it; a page behind the first has no validator of its own. */
  type Question = { what: string; part: string } | null
  /** Null: nothing changed since an answer whose `keep` was called. `now` is GitHub's clock. */
  const ask = async <T>(
    question: Question,
    request: (headers: Record<string, string>) => Promise<{ data: T; headers: Record<string, unknown> }>,
  ): Promise<{ data: T; more: boolean; now: number; keep: () => void } | null> => {
    const known = question === null ? undefined : tags.get(question.what)
    const heard = (headers: Record<string, unknown>) => {
      interval = Math.max(interval, Number(headers['x-poll-interval'] ?? 0) || 0)
    }
    try {
      const { data, headers } = await request(
        known?.part === question?.part && known !== undefined ? { 'if-none-match': known.tag } : {},
      )
      heard(headers)
      const { etag, date, link } = headers
      const at = Date.parse(String(date))
      return {
        data,
        more: typeof link === 'string' && link.includes('rel="next"'),
        now: Number.isFinite(at) ? at : clock(),
        keep: () => {
          if (question !== null && typeof etag === 'string') tags.set(question.what, { part: question.part, tag: etag })
        },
      }
    } catch (error) {
      if (statusOf(error) !== 304) throw error
      if (typeof error === 'object' && error !== null && 'response' in error)
        heard((error.response as { headers?: Record<string, unknown> } | undefined)?.headers ?? {})
      return null
    }
  }

  // ── What one repository has that is new ──

  const pushes = async (repo: string, octokit: Octokit, first: boolean) => {
    const found = await ask({ what: `${repo} heads`, part: '' }, headers =>
      octokit.rest.git.listMatchingRefs({ ...parts(repo), ref: 'heads/', headers }),
    )
    if (found === null) return null
    // Perhaps the default branch, with other rules: they hold for what is found now.
    await rulesChanged(repo)
    const rules = await rulesOf(repo)
    const known = memory.heads(repo)
    const moved = found.data
      .filter(({ ref }) => ref.startsWith(HEADS) && findTicket([ref.slice(HEADS.length)], rules.projects) !== null)
      .filter(({ ref }) => isBranchServed(ref.slice(HEADS.length), rules))
      .map(({ ref, object }) => ({ ref, sha: object.sha }))
      .filter(({ ref, sha }) => known.get(ref) !== sha)
    return {
      deliveries: first
        ? []
        : moved.map(({ ref, sha }) => {
            const payload = { ref, after: sha, deleted: false, repository: { full_name: repo }, sender: null }
            return delivery(`${repo}:${ref}:${sha}`, {
              event: 'push',
              lane: githubLane('push', payload),
              body: JSON.stringify(payload),
            })
          }),
      keep: () => {
        for (const { ref, sha } of moved) memory.setHead(repo, ref, sha)
        found.keep()
      },
    }
  }

  const commentDelivery = (repo: string, comment: ListedComment): Delivery | null => {
    const number = Number(comment.issue_url.match(/\/issues\/(\d+)$/)?.[1] ?? Number.NaN)
    const onPullRequest = /\/pull\/\d+#/.test(comment.html_url)
    if (!onPullRequest || !Number.isInteger(number) || isMarked(comment.body ?? '')) return null
    const { id, body, user, performed_via_github_app, created_at, updated_at } = comment
    // What it said at first is not known any more. Nobody edits within a second of writing.
    const edited = Date.parse(updated_at) - Date.parse(created_at) > 1_000
    const payload = {
      action: edited ? 'edited' : 'created',
      repository: { full_name: repo },
      issue: { number, pull_request: {} },
      comment: {
        id,
        body,
        user: user === null ? null : { login: user.login, type: user.type },
        performed_via_github_app,
        created_at,
      },
      sender: null,
    }
    return delivery(`${repo}:comment:${id}${edited ? `:${updated_at}` : ''}`, {
      event: 'issue_comment',
      lane: githubLane('issue_comment', payload),
      body: JSON.stringify(payload),
    })
  }

  const comments = async (repo: string, octokit: Octokit, { began, comments: since }: Place) => {
    const deliveries: Delivery[] = []
    let newest = since
    let first: { now: number; keep: () => void } | null = null
    for (let page = 1; ; page += 1) {
      const request = (headers: Record<string, string>) =>
        octokit.rest.issues.listCommentsForRepo({
          ...parts(repo),
          since,
          sort: 'updated',
          // The newest first: whatever is new changes the first page.
          direction: 'desc',
          per_page: 100,
          page,
          headers,
        })
      const found = await ask(page === 1 ? { what: `${repo} comments`, part: since } : null, request)
      if (found === null) return null
      first ??= found
      for (const comment of found.data) {
        if (comment.updated_at > newest) newest = comment.updated_at
        // As times, not as text: with parts of a second, the text of the later one sorts before.
        const made = Date.parse(comment.created_at) < Date.parse(began) ? null : commentDelivery(repo, comment)
        if (made !== null) deliveries.push(made)
      }
      if (!found.more) break
    }
    const lagging = iso(Date.parse(newest) - OVERLAP_MS)
    const stale = first.now - Date.parse(since) > MOVE_CURSOR_MS
    const cursor = stale ? iso(first.now - OVERLAP_MS) : lagging > since ? lagging : since
    return { deliveries: deliveries.reverse(), cursor, keep: first.keep }
  }

  const pulls = async (repo: string, octokit: Octokit, rules: Rules, place: Place | null) => {
    const deliveries: Delivery[] = []
    let newest = place?.pulls ?? ''
    let first: { now: number; keep: () => void } | null = null
    const from = place === null ? '' : iso(Date.parse(place.pulls) - OVERLAP_MS)
    for (let page = 1; ; page += 1) {
      const request = (headers: Record<string, string>) =>
        octokit.rest.pulls.list({
          ...parts(repo),
          // At first, those that are open: what is over was not ours.
          state: place === null ? 'open' : 'all',
          sort: 'updated',
          direction: 'desc',
          per_page: 100,
          page,
          headers,
        })
      const found = await ask(
        page === 1 ? { what: `${repo} pulls`, part: place === null ? 'open' : 'all' } : null,
        request,
      )
      if (found === null) return null
      first ??= found
      for (const data of found.data) {
        if (data.updated_at > newest) newest = data.updated_at
        if (data.updated_at < from) continue
        const now = asNow(data)
        const known = memory.linkOf({ repo, number: data.number })
        const began = place === null ? found.now : Date.parse(place.began)
        const action = untold(now, known, ticketOfPullRequest(now, rules), began)
        if (action === null) continue
        const made = pullRequestDelivery(repo, data, action, known, memory.installationOf(repo))
        deliveries.push(delivery(made.about, made))
      }
      if (!found.more || (found.data.at(-1)?.updated_at ?? '') < from) break
    }
    return { deliveries: deliveries.reverse(), now: first.now, newest, keep: first.keep }
  }

  const look = async (repo: string): Promise<void> => {
    const octokit = await github.clientFor(repo)
    if (octokit === null) return
    // Who changes from one way to the other begins anew: where the other one was is long ago.
    const key = `${wanted.includes('comments') ? 'github' : 'github-app'}:${repo}`
    const place = memory.place<Place>(key)
    // What cannot be read leaves the rest: it is told, and read the next time.
    let trouble: unknown = null
    const read = async <T>(part: Part, look: () => Promise<T | null>): Promise<T | null> => {
      if (!wanted.includes(part)) return null
      try {
        return await look()
      } catch (error) {
        const failure = githubFailure(error, `polling ${repo}`, clock())
        if (!isGitHubFailure(failure) || failure.allows !== 'never') throw failure
        trouble ??= failure
        return null
      }
    }
    const pushed = await read('pushes', () => pushes(repo, octokit, place === null))
    const rules = await rulesOf(repo)
    // A command that was given before a merge is decided before it.
    const said = place === null ? null : await read('comments', () => comments(repo, octokit, place))
    const changed = await read('pulls', () => pulls(repo, octokit, rules, place))
    accept([pushed, said, changed].flatMap(one => one?.deliveries ?? []))
    memory.together(() => {
      for (const one of [pushed, said, changed]) one?.keep()
      if (place === null && changed !== null) {
        // GitHub's times are whole seconds: what belongs to the second of our first look may have been before it.
        const now = iso(changed.now + 1_000)
        memory.setPlace(key, { began: now, comments: now, pulls: now } satisfies Place)
        log.info(
          { repo, open: changed.deliveries.length },
          'watched from now on; what was said there before is not acted on',
        )
      } else if (place !== null) {
        const next: Place = {
          ...place,
          comments: said?.cursor ?? place.comments,
          pulls: changed?.newest ?? place.pulls,
        }
        if (next.comments !== place.comments || next.pulls !== place.pulls) memory.setPlace(key, next)
      }
    })
    if (trouble !== null) throw trouble
  }

  const choose = async (): Promise<void> => {
    if (clock() - choseAt < CHOOSE_EVERY_MS) return
    const chosen = await github.repositories()
    choseAt = clock()
    if (chosen.join() !== watched.join()) log.info({ repositories: chosen }, 'watching on GitHub')
    watched = chosen
  }

  const trying = async (what: string, work: () => Promise<void>) => {
    if (clock() < notBefore) return
    try {
      await work()
      told(what, null)
    } catch (error) {
      const failure = githubFailure(error, what, clock())
      told(what, failure.failure)
      if (!isGitHubFailure(failure)) return
      if (failure.in !== null) notBefore = Math.max(notBefore, clock() + failure.in)
      else if (failure.allows === 'pause') notBefore = Math.max(notBefore, clock() + everyMs)
    }
  }

  // ── What is so, and was not told, of the tickets that have a machine ──

  /** Behind which the next round goes on. */
  let compared = ''
  const nameOf = ({ repo, number }: KnownPullRequest) => `${repo}#${number}`
  const compareOne = async (link: KnownPullRequest): Promise<void> => {
    const { repo, number } = link
    const octokit = await github.clientFor(repo)
    if (octokit === null) return
    const found = await ask({ what: nameOf(link), part: '' }, headers =>
      octokit.rest.pulls.get({ ...parts(repo), pull_number: number, headers }),
    )
    if (found === null) return
    const now = asNow(found.data)
    const known = memory.linkOf(link)
    const action = untold(now, known, ticketOfPullRequest(now, await rulesOf(repo)), 0)
    // What is told is looked at again until it was decided.
    if (action === null) return found.keep()
    const made = pullRequestDelivery(repo, found.data, action, known, memory.installationOf(repo))
    accept([delivery(made.about, made)])
  }
  const compare = async (): Promise<void> => {
    const links = memory
      .withMachine()
      .flatMap(memory.pullRequestsOf)
      .filter(one => one.settled?.state !== 'merged')
      .sort((one, other) => (nameOf(one) < nameOf(other) ? -1 : 1))
    const ahead = links.filter(one => nameOf(one) > compared)
    const round = (links.length > COMPARED_AT_ONCE ? [...ahead, ...links] : links).slice(0, COMPARED_AT_ONCE)
    for (const link of round) await trying(`reading ${nameOf(link)}`, () => compareOne(link))
    compared = round.length < COMPARED_AT_ONCE ? '' : nameOf(round.at(-1) as KnownPullRequest)
  }

  return {
    /** Reads each pull request of a ticket that has a machine, by its number: one request each, answered 304 when nothing changed. */
    compare,
    /** Looks at every repository once. Returns after how many milliseconds the next look may be. */
    round: async (): Promise<number> => {
      interval = 0
      await trying('asking GitHub for the repositories to watch', choose)
      const left = [...watched]
      await Promise.all(
        Array.from({ length: AT_ONCE }, async () => {
          for (let repo = left.shift(); repo !== undefined; repo = left.shift()) {
            const name = repo
            await trying(`polling ${name}`, () => look(name))
          }
        }),
      )
      const rate = github.rate()
      if (rate !== null && rate.remaining < rate.limit * RESERVE && rate.resetAt > clock()) {
        log.warn({ ...rate }, 'few requests are left at GitHub: polling rests until there are more')
        notBefore = Math.max(notBefore, clock() + boundedWait(rate.resetAt - clock()))
      }
      return Math.max(everyMs, interval * 1000, notBefore - clock())
    },
  }
}
