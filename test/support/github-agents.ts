/** Reviews and checks in the GitHub stand-in, which the simulator lacks, or has no way to make. Shapes as in @octokit/webhooks-examples. */
import { createRequire } from 'node:module'
import type { Json, Webhooks } from './github-webhooks.ts'

type Example = { name: string; examples: Json[] }
const require = createRequire(import.meta.url)
const exampleOf = (event: string, index: number): Json => {
  const all = require('@octokit/webhooks-examples') as Example[] | { default: Example[] }
  const list = Array.isArray(all) ? all : all.default
  const found = list.find(({ name }) => name === event)?.examples[index]
  if (found === undefined) throw new Error(`there is no example ${index} of ${event}`)
  return found
}

type Comment = { path: string; line: number | null; body: string }
type Review = { id: number; body: string; state: string; login: string; type: string; at: string; comments: Comment[] }
type Run = { name: string; conclusion: string; summary?: string }
type Suite = { id: number; branch: string; sha: string; conclusion: string; at: string; runs: Run[] }

export const openAgentState = () => ({ reviews: new Map<number, Review[]>(), suites: [] as Suite[] })
export type AgentState = ReturnType<typeof openAgentState>

const userOf = ({ login, type }: Review) => ({ login, type, id: 1, node_id: 'MDQ6VXNlcjE=' })

/** The answer to a request about them; null for others. */
export const agentAnswer = (
  { reviews, suites }: AgentState,
  { method, pathname }: { method: string; pathname: string },
): { status: number; body: unknown } | null => {
  if (method !== 'GET') return null
  const [, number, id] = pathname.match(/\/pulls\/(\d+)\/reviews(?:\/(\d+)\/comments)?$/) ?? []
  if (number !== undefined) {
    const all = reviews.get(Number(number)) ?? []
    if (id !== undefined) {
      const review = all.find(candidate => candidate.id === Number(id))
      return {
        status: 200,
        body: (review?.comments ?? []).map(comment => ({ ...comment, original_line: comment.line })),
      }
    }
    const body = all.map(review => ({
      ...{ id: review.id, body: review.body, state: review.state.toUpperCase(), user: userOf(review) },
      submitted_at: review.at,
    }))
    return { status: 200, body }
  }
  const [, ref = '', what] = pathname.match(/\/commits\/(.+)\/(check-suites|check-runs)$/) ?? []
  if (what === undefined) return null
  const name = decodeURIComponent(ref)
  const ofRef = suites.filter(({ branch, sha }) => name === sha || name === `heads/${branch}`)
  const last = ofRef.at(-1)?.sha
  const current = ofRef.filter(({ sha }) => sha === last)
  const check_suites = current.map(({ id, branch, sha, conclusion, at }) => ({
    ...{ id, head_branch: branch, head_sha: sha, status: 'completed', conclusion, updated_at: at },
  }))
  const check_runs = current.flatMap(({ runs }) =>
    runs.map(({ name, conclusion, summary = null }, n) => ({
      ...{ id: n + 1, name, status: 'completed', conclusion, html_url: `https://github.com/runs/${n + 1}` },
      output: { title: null, summary },
    })),
  )
  const body =
    what === 'check-suites'
      ? { total_count: check_suites.length, check_suites }
      : { total_count: check_runs.length, check_runs }
  return { status: 200, body }
}

/** What people and their checks do. Each sends its event. */
export const openAgentPeople = (
  { reviews, suites }: AgentState,
  tools: {
    webhooks: Webhooks
    common: (login: string) => Promise<Json>
    pull: (number: number) => Promise<Json>
    headOf: (branch: string) => Promise<string>
  },
) => {
  const { webhooks, common, pull, headOf } = tools
  let made = 0
  return {
    /** Submits a review. Returns its id. */
    review: async (
      number: number,
      body: string,
      { login = 'dev', type = 'User', state = 'changes_requested', comments = [] as Comment[] } = {},
    ): Promise<number> => {
      made += 1
      const id = 80_000 + made
      const at = new Date(Date.now()).toISOString()
      const review = { id, body, state, login, type, at, comments }
      reviews.set(number, [...(reviews.get(number) ?? []), review])
      const example = exampleOf('pull_request_review', 2).review as { user: Json }
      const sent = { ...example, id, body, state, submitted_at: at, user: { ...example.user, login, type } }
      await webhooks.deliver('pull_request_review', {
        ...{ action: 'submitted', review: sent, pull_request: { ...(await pull(number)), active_lock_reason: null } },
        ...(await common('dev')),
      })
      return id
    },
    /** The checks of the head of a branch, or of another commit, end. Returns the id of their suite. */
    check: async (branch: string, runs: Run[], { conclusion = 'failure', commit = null as string | null } = {}) => {
      made += 1
      const id = 90_000 + made
      const sha = commit ?? (await headOf(branch))
      const at = new Date(Date.now()).toISOString()
      suites.push({ id, branch, sha, conclusion, at, runs })
      const example = exampleOf('check_suite', 0).check_suite as Json
      await webhooks.deliver('check_suite', {
        action: 'completed',
        check_suite: {
          ...example,
          id,
          head_branch: branch,
          head_sha: sha,
          conclusion,
          updated_at: at,
          pull_requests: [],
        },
        ...(await common('dev')),
      })
      return id
    },
  }
}
