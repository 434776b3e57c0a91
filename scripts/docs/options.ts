/** The help of each option, with the values that are loaded on demand. */
import { type Option, optionHelp } from '../../src/cli/command.ts'
import { commands, commonOptions } from '../../src/cli/command-table.ts'

const options = [...Object.values(commands).map(command => command.options), commonOptions].flatMap(
  Object.values<Option>,
)
const code = (value: string) => `\`${value}\``
const help = new Map(await Promise.all(options.map(async option => [option, await optionHelp(option)] as const)))
const markdown = new Map(
  await Promise.all(options.map(async option => [option, await optionHelp(option, code)] as const)),
)

export const optionText = (option: Option): string => help.get(option) ?? ''
/** With the values as code. */
export const optionMarkdown = (option: Option): string => markdown.get(option) ?? ''
