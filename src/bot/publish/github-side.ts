/** Our comments on GitHub: a status comment or a reply on a pull request, found by its marker and its author. */
import type { PullRequestRef } from '../../schema/action.ts'
import { type GitHub, type Octokit, parts, statusOf } from '../github/client.ts'
import type { OwnCommentSide } from './own-comment.ts'
import { markdown } from './text.ts'
import { unpublishable } from './trouble.ts'
import type { Rendered } from './words.ts'

const body = (marker: string, { blocks }: Rendered): string => `${marker}\n${markdown(blocks)}\n`

export const octokitFor = async (github: GitHub | null, repo: string): Promise<Octokit> => {
  if (github === null) throw unpublishable('GitHub is not configured')
  const octokit = await github.clientFor(repo)
  if (octokit === null) throw unpublishable(`the App is not installed on ${repo}`)
  return octokit
}

/** Our comment with this marker, or null. Others may copy the marker. */
const findMarked = async (github: GitHub | null, { repo, number }: PullRequestRef, marker: string) => {
  const octokit = await octokitFor(github, repo)
  const pages = octokit.paginate.iterator(octokit.rest.issues.listComments, {
    ...parts(repo),
    issue_number: number,
    per_page: 100,
  })
  for await (const { data } of pages) {
    for (const comment of data) {
      if (comment.body?.startsWith(marker) && (await github?.isOurs(comment))) return String(comment.id)
    }
  }
  return null
}

/** `mayPost` false: an existing comment is edited, and no new one is posted. */
export const githubComment = (
  github: GitHub | null,
  {
    kind,
    about,
    marker,
    ...pullRequest
  }: PullRequestRef & { kind: 'status' | 'reply' | 'note'; about: string; marker: string },
  mayPost: boolean,
): OwnCommentSide<Rendered> => {
  const { repo, number } = pullRequest
  return {
    key: { side: 'github', kind, repo, number, about },
    // Also when it was never begun: a bot that lost its store finds its comments.
    find: () => findMarked(github, pullRequest, marker),
    edit: async (id, text) => {
      const octokit = await octokitFor(github, repo)
      try {
        await octokit.rest.issues.updateComment({ ...parts(repo), comment_id: Number(id), body: body(marker, text) })
        return true
      } catch (error) {
        if (statusOf(error) === 404) return false
        throw error
      }
    },
    post: async text => {
      if (!mayPost) return null
      const octokit = await octokitFor(github, repo)
      const { data } = await octokit.rest.issues.createComment({
        ...parts(repo),
        issue_number: number,
        body: body(marker, text),
      })
      return { id: String(data.id) }
    },
  }
}

/** Repeating a reaction changes nothing. */
export const react = async (
  github: GitHub | null,
  { repo, commentId, content }: { repo: string; commentId: number; content: 'eyes' | 'rocket' | 'confused' },
): Promise<void> => {
  const octokit = await octokitFor(github, repo)
  await octokit.rest.reactions.createForIssueComment({ ...parts(repo), comment_id: commentId, content })
}
