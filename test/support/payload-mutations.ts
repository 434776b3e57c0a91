/** Recorded payloads of GitHub, made tempting and broken at random. The same seed gives the same ones. */
import examples from '@octokit/webhooks-examples' with { type: 'json' }

type Payload = Record<string, unknown>
export type Sent = { event: string; payload: Payload }
export const recorded: readonly Sent[] = (examples as unknown as { name: string; examples: Payload[] }[]).flatMap(
  ({ name, examples }) => examples.map(payload => ({ event: name, payload })),
)

/** A push has no action, whatever its payload says. */
export const nameOf = ({ event, payload }: Sent) =>
  typeof payload.action === 'string' && event !== 'push' ? `${event} ${payload.action}` : event

/** Every branch, title, text, person and repository in it is one that means something to the bot. */
export const tempting = ({ event, payload }: Sent, repo: string, installation: number): Sent => {
  const number = event !== 'pull_request' ? 1 : payload.action === 'closed' ? 3 : 2
  const walk = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(walk)
    if (typeof value !== 'object' || value === null) return value
    return Object.fromEntries(
      Object.entries(value).map(([name, member]) => {
        if (name === 'full_name') return [name, repo]
        if (name === 'login') return [name, 'dev']
        if (name === 'number') return [name, number]
        if (typeof member !== 'string') return [name, walk(member)]
        if (name === 'ref') return [name, member.replace(/^(refs\/heads\/|(?!refs\/)).*/, `$1drop-${number}`)]
        if (name === 'title') return [name, `DROP-${number}`]
        return [name, name === 'body' ? '/swarm checkpoint' : member]
      }),
    )
  }
  const changed = walk(payload) as Payload & { issue?: object }
  const issue = changed.issue === undefined ? {} : { issue: { ...changed.issue, pull_request: { url: 'https://x' } } }
  return { event, payload: { ...changed, ...issue, installation: { id: installation } } }
}

/** mulberry32: integers below a bound. */
export const randomFrom = (seed: number) => {
  let state = seed
  return (below: number): number => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below)
  }
}

const nested = (levels: number): unknown => (levels === 0 ? null : [nested(levels - 1)])
/** What takes the place of a value; undefined leaves it out. */
const replacements: readonly ((value: unknown) => unknown)[] = [
  () => undefined,
  () => null,
  value => (typeof value === 'number' ? String(value) : 7),
  value => [value],
  value => ({ ...Object(value), extra: value }),
  () => true,
  () => '',
  () => -1,
  () => 0.5,
  () => 2 ** 53,
  () => 1e308,
  () => 'x'.repeat(100_000),
  () => nested(1_000),
  () => '\u0000\ud800 \u202e DROP-1 \u{1f600} \n\r\u2028',
  () => '../../etc/passwd?a=b#c',
  () => JSON.parse('{"__proto__": {"login": "dev"}, "constructor": {"prototype": 1}, "toString": "x", "length": 1e9}'),
  () => '__proto__',
  () => 'constructor',
]
/** The members that the bot reads: half of all mutations change one of these. */
const READ = [
  'action',
  ...['ref', 'after', 'deleted', 'sender', 'sender.login', 'installation', 'installation.id'],
  ...['repository', 'repository.full_name', 'repository.default_branch'],
  ...['pull_request', 'pull_request.number', 'pull_request.title', 'pull_request.body', 'pull_request.updated_at'],
  ...['pull_request.head', 'pull_request.head.ref', 'pull_request.head.repo', 'pull_request.head.repo.full_name'],
  ...['issue', 'issue.number', 'issue.pull_request', 'comment', 'comment.id', 'comment.body', 'comment.created_at'],
  ...['comment.user', 'comment.user.login', 'comment.user.type', 'comment.performed_via_github_app'],
].map(path => path.split('.'))

/** `count` payloads, each broken in up to three places. */
export const mutations = (bases: readonly Sent[], count: number, seed: number): Sent[] => {
  const random = randomFrom(seed)
  const pick = <T>(all: readonly T[]): T => all[random(all.length)] as T
  const handled = bases.filter(({ event }) => ['push', 'pull_request', 'issue_comment'].includes(event))
  const actions = [...new Set(recorded.map(({ payload }) => payload.action))]
  const mutate = (payload: Payload) => {
    if (random(10) === 0) payload.action = pick(actions)
    const path = random(2) === 0 ? pick(READ) : null
    let at = payload
    for (let depth = 0; ; depth += 1) {
      const key = path === null ? pick(Object.keys(at)) : path[depth]
      if (key === undefined) return
      const inside = at[key]
      const isLast = path === null ? random(3) === 0 : depth === path.length - 1
      if (isLast || typeof inside !== 'object' || inside === null || Object.keys(inside).length === 0) {
        at[key] = pick(replacements)(inside)
        return
      }
      at = inside as Payload
    }
  }
  return Array.from({ length: count }, (_, n): Sent => {
    const { event, payload } = structuredClone(pick(random(2) === 0 ? handled : bases))
    // One comment asks for the same thing only once.
    if (payload.comment !== undefined) Object.assign(payload.comment as object, { id: 1_000_000 + n })
    for (let times = 1 + random(3); times > 0; times -= 1) mutate(payload)
    return { event: random(20) === 0 ? pick(handled).event : event, payload }
  })
}
