/** The person's own ssh configuration: where it is, and what a command did to it. */
import { homedir, userInfo } from 'node:os'
import { join } from 'node:path'
import { type Invocation, print, printJson, printNote } from './terminal/output.ts'

/** HOME is a path of another world on Windows, where a shell set it: ssh takes the profile there. */
export const personHome = (
  environment: Readonly<Record<string, string | undefined>>,
  platform: NodeJS.Platform,
): string => (platform === 'win32' ? homedir() : environment.HOME || homedir())

/** The home folder whose configuration ssh reads, when it is not HOME: ssh asks the system for it. */
const otherSshHome = (home: string): string | null => {
  try {
    const { homedir } = userInfo()
    return homedir === home ? null : homedir
  } catch {
    // The user id has no name.
    return null
  }
}

export type SshWay = 'install' | 'uninstall'
const skippedText = { install: 'It is installed and up to date.', uninstall: 'It is not installed.' }

type Shown = {
  folder: string
  steps: readonly { description: string }[]
  /** Our file afterwards. */
  text: string | null
  way: SshWay
  command: string
  /** What it says when it is done. */
  done: string
}

export const showSteps = (invocation: Invocation, { folder, steps: all, text, way, command, done }: Shown): void => {
  const { flags, json, quiet, terminal } = invocation
  const dryRun = flags['dry-run'] === true
  const steps = all.map(step => step.description)
  const result = steps.length === 0 ? 'skipped' : dryRun ? 'planned' : 'done'
  if (json) printJson<'ssh'>({ result, steps, ...(dryRun ? { text } : {}) }, terminal)
  else if (!quiet) {
    const plan = [`Dry run: \`${command}\` would:`, ...steps.map(step => `  - ${step}`)].join('\n')
    const texts = {
      skipped: skippedText[way],
      planned: text === null ? plan : `${plan}\n\nThe file:\n\n${text.trimEnd()}`,
      done,
    }
    print(texts[result], terminal)
    const other = way === 'install' ? otherSshHome(join(folder, '..')) : null
    if (other !== null)
      printNote(
        `ssh reads the configuration in ${other}/.ssh, whatever HOME is. To use this one: ssh -F ${folder}/config …`,
        terminal,
      )
  }
}
