/** Which requests of git there are. Everything else is answered with 404: no file of a mirror is served (dumb HTTP), no archive. */

export type Route = {
  /** `owner/name` in lower case: GitHub's names differ in more than case. */
  repo: string
  service: 'git-upload-pack' | 'git-receive-pack'
  /** The first request of a fetch or push: which refs there are. */
  isDiscovery: boolean
}

const DISCOVERY = /^\/info\/refs\?service=(git-upload-pack|git-receive-pack)$/
const RPC = /^\/(git-upload-pack|git-receive-pack)$/
const REPOSITORY = /^\/([a-z0-9][a-z0-9_-]{0,38})\/([a-z0-9._-]{1,100})$/

/** `owner/name` in the form of keys and paths; null when it is no name of a repository. */
export const canonicalRepository = (text: string): string | null => {
  const [, owner, name = ''] = `/${text}`.toLowerCase().match(REPOSITORY) ?? []
  return owner === undefined || /^\.+$|\.git$/.test(name) ? null : `${owner}/${name}`
}

/** `url` is the request's target: a path and a query. Percent signs are in no name. Null: not a request of git. */
export const readRoute = (method: string | undefined, url: string | undefined): Route | null => {
  const [, path = '', rest = ''] = url?.match(/^\/([^/?]+\/[^/?]+)(\/.*)$/) ?? []
  const repo = canonicalRepository(path.replace(/\.git$/i, ''))
  const service = (method === 'GET' ? rest.match(DISCOVERY) : method === 'POST' ? rest.match(RPC) : null)?.[1]
  if (repo === null || service === undefined) return null
  return { repo, service: service as Route['service'], isDiscovery: method === 'GET' }
}
