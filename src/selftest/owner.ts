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

/**
 * What names an account, or its parts, at a provider that is not on this host, and addresses that the whole internet knows. Also
 * hides a number of bytes that has twelve digits: nothing tells it from the number of an account.
 */
const ACCOUNTS: readonly (readonly [RegExp, string])[] = [
  [/\barn:aws[a-z-]*:[^\s"',)]+/g, 'ARN'],
  [/(?<=Encoded authorization failure message: )\S+/g, 'MESSAGE'],
  [/\b(?:AKIA|ASIA|AIDA|AROA)[A-Z0-9]{8,}\b/g, 'KEY-ID'],
  [/(?<!\w)\d{12}(?!\w)/g, 'ACCOUNT'],
  [/(?<![\w-])(i|vol|snap|ami|sg|sgr|subnet|vpc|eni|eipalloc|r|replacevol)-[0-9a-f]{8,32}(?![\w-])/g, '$1-ID'],
  [/(?<![\w-])sir-[0-9a-z]{8}(?![\w-])/g, 'sir-ID'],
  [/\bec2-\d{1,3}(?:-\d{1,3}){3}(?=\.)/g, 'ADDRESS'],
  [/(?<![\w:])[23][0-9a-f]{3}(?::[0-9a-f]{0,4}){2,7}(?![\w:])/gi, 'ADDRESS'],
]
const IPV4 = /(?<![\w.-])\d{1,3}(?:\.\d{1,3}){3}(?![\w-]|\.\d)/g
/** Private, loopback, link-local, of carriers, multicast and masks; and a version such as 10.0.22631.1. */
const isNobodys = (address: string): boolean => {
  const [a = 0, b = 0, ...rest] = address.split('.').map(Number)
  if ([a, b, ...rest].some(part => part > 255)) return true
  return (
    [0, 10, 127].includes(a) ||
    a >= 224 ||
    (a === 172 && b >= 16 && b < 32) ||
    (a === 192 && b === 168) ||
    (a === 169 && b === 254) ||
    (a === 100 && b >= 64 && b < 128)
  )
}
const hideAccounts = (text: string): string =>
  ACCOUNTS.reduce((shown, [form, instead]) => shown.replaceAll(form, instead), text).replaceAll(IPV4, address =>
    isNobodys(address) ? address : 'ADDRESS',
  )

/** `person`: the home folder. */
export type Owner = { home: string; homeId: string; person: string; user: string; host: string }
export const ownerOf = (home: string, homeId: string): Owner => ({
  ...{ home, homeId },
  ...{ person: homedir(), user: userName(), host: hostname() },
})

/** Replaces the paths and names of the owner, and accounts and public addresses, in a line. */
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
  const hideNames = (text: string) =>
    words.reduce((shown, [word, instead]) => (word === '' ? shown : shown.replaceAll(word, instead)), text)
  return text => hideAccounts(hideNames(text))
}
