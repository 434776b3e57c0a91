/** What GitHub says of its last deliveries to the App's webhook: only GitHub sees whether it reaches the bot. */

import { type Finding, failed, ok, problem, warning } from '../../check.ts'
import type { Config } from '../../config/config.ts'
import { openLog } from '../../log.ts'
import { githubFailure, type Octokit } from './client.ts'
import { openGitHub } from './open.ts'

const LAST = 30

const checkLast = async (octokit: Octokit): Promise<Finding> => {
  const { data } = await octokit.rest.apps.listWebhookDeliveries({ per_page: LAST })
  const [newest] = data
  if (newest === undefined)
    return warning('GitHub has delivered nothing to the webhook of the App in the last days', null)
  const hasFailed = ({ status_code }: { status_code: number }) => status_code < 200 || status_code >= 300
  const lost = data.filter(hasFailed).length
  const when = `${newest.event}, ${newest.delivered_at}`
  if (hasFailed(newest))
    return problem(
      `the last delivery of GitHub (${when}) did not arrive: ${newest.status} (${newest.status_code})`,
      'The address of the webhook must lead to the bot; the page Advanced of the App shows what GitHub got as an answer. The bot asks for it again once it is reachable.',
    )
  const text = `the last delivery of GitHub (${when}) arrived`
  return lost === 0
    ? ok(text)
    : ok(`${text}; ${lost} of ${data.length} before it did not, and the bot asks for them again`)
}

export const checkAppDeliveries = async ({ github }: Pick<Config, 'github'>): Promise<Finding[]> => {
  if (github?.via !== 'app') return []
  try {
    const octokit = await (await openGitHub(github, { log: openLog('silent'), paced: false })).asApp?.()
    return octokit === undefined ? [] : [await checkLast(octokit)]
  } catch (error) {
    return [failed(githubFailure(error, 'reading the deliveries of the App', Date.now()).failure)]
  }
}
