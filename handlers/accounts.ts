/** Lists of Jira accounts, as settings have them. */
import type { Rules } from './handler.ts'

/** Whether the list has this account. `me`: the account of the bot's token. */
export const isAmong = (account: string | null, list: Rules['assignees'], me: string | null): boolean => {
  if (list === 'any') return true
  if (account === null) return false
  return list === 'me' ? account === me : list.includes(account)
}
