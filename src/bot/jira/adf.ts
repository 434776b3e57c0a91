/** Jira's document format, as far as we write it: https://developer.atlassian.com/cloud/jira/platform/apis/document/structure/ */

export type AdfNode = {
  type: string
  text?: string
  marks?: ({ type: 'code' | 'strong' } | { type: 'link'; attrs: { href: string } })[]
  attrs?: Record<string, unknown>
  content?: AdfNode[]
}
export type Adf = { type: 'doc'; version: 1; content: AdfNode[] }
