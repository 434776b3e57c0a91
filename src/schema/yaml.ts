/** YAML files that people write. A file is hostile until it is parsed: it has a size limit, and no aliases, tags or duplicate keys. */
import type * as v from 'valibot'
import { issuePath, issueText } from './forms.ts'

const MAX_PROBLEMS = 20
/** What YAML's syntax is made of. The parser's time grows faster than their number, and a file of settings needs few. */
const MARKS = /[[{*&!?%"':]|-\s/g
const MAX_MARKS = 2_000
const limitProblems = (problems: string[]): string[] =>
  problems.length <= MAX_PROBLEMS
    ? problems
    : [...problems.slice(0, MAX_PROBLEMS), `There are ${problems.length - MAX_PROBLEMS} more problems.`]

export type YamlFile = {
  /** Undefined when the file cannot be read. */
  value: unknown
  /** One sentence each. */
  problems: string[]
  /** `name:line` of the value at this path. */
  at(path: readonly PropertyKey[]): string
}

/** `name` is the file's name in messages; `limit` its largest size in characters. */
export const readYaml = async (content: string, name: string, limit: number): Promise<YamlFile> => {
  const unreadable = (problems: string[]): YamlFile => ({ value: undefined, problems, at: () => name })
  if (content.length > limit) return unreadable([`${name} is larger than ${limit} characters.`])
  if ((content.match(MARKS)?.length ?? 0) > MAX_MARKS)
    return unreadable([`${name} has more than ${MAX_MARKS} colons, quotes, brackets and other marks of YAML.`])
  const { LineCounter, parseDocument } = await import('yaml')
  const counter = new LineCounter()
  const lineAt = (offset: number) => `${name}:${counter.linePos(offset).line}`
  try {
    const document = parseDocument(content, {
      lineCounter: counter,
      prettyErrors: false,
      stringKeys: true,
      version: '1.2',
    })
    const mistakes = [...document.errors, ...document.warnings]
    if (mistakes.length > 0)
      return unreadable(limitProblems(mistakes.map(({ pos, message }) => `${lineAt(pos[0])}: ${message}`)))
    return {
      // Aliases of aliases make a billion values of ten lines.
      value: document.toJS({ maxAliasCount: 0 }) ?? {},
      problems: [],
      at: path => {
        for (let length = path.length; length > 0; length -= 1) {
          const node = document.getIn(path.slice(0, length), true)
          if (typeof node === 'object' && node !== null && 'range' in node && Array.isArray(node.range))
            return lineAt(node.range[0])
        }
        return name
      },
    }
  } catch (error) {
    const reason = /alias/i.test(String(error))
      ? 'aliases (&name, *name) are not allowed; write the value out'
      : 'it is nested too deeply'
    return unreadable([`${name}: ${reason}.`])
  }
}

/** Every issue as a sentence with its line. */
export const problemsOf = (file: YamlFile, issues: readonly v.BaseIssue<unknown>[]): string[] =>
  limitProblems(issues.map(issue => issueText(`${file.at(issuePath(issue))}: `, issue)))
