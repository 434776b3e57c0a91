/** What in a transcript tells whose host it was. It is taken out, so that a transcript can be handed on as it is. */
import { realpathSync } from 'node:fs'
import { homedir, hostname, userInfo } from 'node:os'

/** The text as a word of its own, so that a host with the name `debian` does not change `debian-packages`. */
const wordOf = (text: string) => new RegExp(`(?<![\\w.-])${text.replaceAll(/[^\w]/g, '\\$&')}(?![\\w-])`, 'g')
/** As a tool may print it: on Windows also with slashes, and in JSON. */
const formsOf = (path: string) => [path.replaceAll('\\', '\\\\'), path, path.replaceAll('\\', '/')]
/** Shorter names stand in too many words. */
const LEAST_NAME = 3

const userName = (): string => {
  try {
    return userInfo().username
  } catch {
    // The user id has no name.
    return ''
  }
}

/** `person`: the home folder. */
export type Owner = { home: string; homeId: string; person: string; user: string; host: string }
export const ownerOf = (home: string, homeId: string): Owner => ({
  ...{ home, homeId },
  ...{ person: homedir(), user: userName(), host: hostname() },
})

/** Replaces the paths and names of the owner in a line. */
export const hideOwner = ({ home, homeId, person, user, host }: Owner): ((text: string) => string) => {
  const homes = [realpathSync(home), home].flatMap(formsOf).map(form => [form, 'AGENT_SWARM_HOME'] as const)
  // `/root` is also the end of other paths.
  const persons = person.length > 1 ? formsOf(person).map(form => [wordOf(form), '~'] as const) : []
  const names = [
    [host, 'HOST'],
    [host.split('.')[0] ?? '', 'HOST'],
    [user === 'root' ? '' : user, 'USER'],
  ].flatMap(([name = '', shown = '']) => (name.length >= LEAST_NAME ? [[wordOf(name), shown] as const] : []))
  const words = [...homes, ...persons, [homeId, 'HOME-ID'] as const, ...names]
  return text => words.reduce((shown, [word, instead]) => (word === '' ? shown : shown.replaceAll(word, instead)), text)
}
