/** The texts of the scripts: their sizes, and what stands in them. */
import { readdirSync } from 'node:fs'
import { resolve } from 'node:path'
import { expect, test } from 'vitest'
import { encodedScript, SCRIPTS, type ScriptName, scriptText } from '../../../providers/hyperv/powershell.ts'
import { commandLine } from '../../../src/command-line.ts'
import { pick } from '../../../src/exec.ts'

const folder = resolve(import.meta.dirname, '../../../providers/hyperv/scripts')
const names = Object.keys(SCRIPTS) as ScriptName[]

/** Windows takes 32,767 characters, and Base64 of UTF-16 has 2.7 for one of the text. */
const MOST_BYTES = 8 * 1024

test.for(names)('%s, with what stands before it, has less than 8 KB and fits into a command line', name => {
  expect(Buffer.byteLength(scriptText(name))).toBeLessThan(MOST_BYTES)
  expect(encodedScript(name).length).toBeLessThan(32_000)
  expect(Buffer.from(encodedScript(name), 'base64').toString('utf16le')).toBe(scriptText(name))
})

test('`-v` and transcripts name the script in place of its text', () => {
  const argv = ['-NoProfile', '-EncodedCommand', encodedScript('survey')]
  const ended = { program: 'powershell.exe', argv, milliseconds: 1_000.4, exitCode: 0, input: true }
  expect(commandLine(ended)).toBe(
    '+ powershell.exe -NoProfile -EncodedCommand SCRIPT  # 1000 ms, SCRIPT is survey.ps1, with input on stdin',
  )
  // Of anybody else, the command is shown as it is.
  const others = ['-EncodedCommand', Buffer.from('Get-VM', 'utf16le').toString('base64')]
  expect(commandLine({ ...ended, argv: others, exitCode: 1, input: false })).toBe(
    `+ powershell.exe ${others.join(' ')}  # 1000 ms, exit 1`,
  )
})

test('every file is a script or stands before one', () => {
  const used = new Set([...names, ...Object.values(SCRIPTS).flat()])
  expect(
    readdirSync(folder)
      .map(file => file.replace('.ps1', ''))
      .sort(),
  ).toEqual([...used].sort())
})

/** Every cmdlet of a module of Windows, as it is called. */
const callsIn = (text: string): string[] =>
  [...text.matchAll(/\b(?:Hyper-V|NetNat|NetTCPIP|CimCmdlets)\\[A-Z]\w+-\w+/g)].map(([call]) => call)

test.for(names)('%s names the module of each cmdlet, addresses by object, and asks nobody', name => {
  // Comments apart.
  const text = scriptText(name).replaceAll(/^\s*#.*$/gm, '')
  expect(
    text.match(
      /(?<![\\\w-])(?:Get|Set|New|Add|Remove|Start|Stop|Save|Resume|Restore|Checkpoint|Resize)-(?:VM|VHD|Net)\w*/g,
    ),
  ).toBe(null)
  for (const line of text.split('\n').filter(each => callsIn(each).length > 0)) {
    // Names are not unique and take wildcards. New ones are made by name.
    if (!/New-VM|New-NetNat|New-VMSwitch/.test(line)) expect(line).not.toMatch(/ -(?:VM)?Name /)
    if (/(?:Remove|Stop)-VM /.test(line)) expect(line).toContain('-Force')
    if (/-VMSnapshot -VMSnapshot/.test(line) && /Re(?:move|store)/.test(line)) expect(line).toContain('-Confirm:$false')
  }
  expect(text).not.toMatch(/\bInvoke-Expression\b|\biex\b/)
})

test.for(names)("%s has no name that Microsoft's reference lacks", name =>
  expect(scriptText(name)).not.toMatch(/Wait-VM|VMCheckpoint\b/),
)

test('nothing of PowerShell 7 is passed on', async () => {
  const { hyperv } = await import('../../../providers/hyperv/description.ts')
  const needed = ['windir', 'ProgramData', 'USERPROFILE', 'TEMP', 'PATHEXT', 'ComSpec']
  const environment = Object.fromEntries([...needed, 'PSModulePath'].map(name => [name, 'x']))
  const passed = Object.keys(pick(environment, hyperv.environment, 'win32'))
  expect(passed).toEqual(expect.arrayContaining(needed))
  expect(passed).not.toContain('PSModulePath')
})
