/** The path of Node that a service starts: one that stays when Node is updated. */
import { existsSync, realpathSync } from 'node:fs'

/** Links to the Node that is first on PATH. */
const LINKS = ['/opt/homebrew/bin/node', '/usr/local/bin/node', '/usr/bin/node']
/**
 * A Node of Homebrew lies in a folder of its version, which `brew upgrade` removes. For each formula, also one that is linked nowhere
 * else (`node@24` is keg-only), `opt/<formula>` is a link to the version that is installed:
 * https://docs.brew.sh/FAQ#what-does-keg-only-mean
 */
const IN_CELLAR = /^(.*)\/Cellar\/([^/]+)\/[^/]+\/bin\/node$/

/** `node`: the path of this process's Node. */
export const stableNodePath = (node: string): string => {
  const [, prefix, formula] = IN_CELLAR.exec(node) ?? []
  const links = formula === undefined ? LINKS : [...LINKS, `${prefix}/opt/${formula}/bin/node`]
  return links.find(path => existsSync(path) && realpathSync(path) === realpathSync(node)) ?? node
}
