/** What differs on Windows: where its own programs are, and which variables they need. */
import { existsSync } from 'node:fs'

type Environment = Readonly<Record<string, string | undefined>>

/** The variables that Windows' own programs need. Never PSModulePath: that of PowerShell 7 leads 5.1 to the wrong modules. */
export const WINDOWS_VARIABLES = [
  ...['windir', 'SystemDrive', 'ProgramFiles', 'ProgramData', 'USERPROFILE', 'USERNAME', 'LOCALAPPDATA', 'APPDATA'],
  ...['TEMP', 'TMP', 'PATHEXT', 'ComSpec'],
]

/** The value of a variable. On Windows their names have no case: a copy of the environment has `Path`. */
export const variableIn = (environment: Environment, name: string, platform: NodeJS.Platform): string | undefined => {
  const value = environment[name]
  if (value !== undefined || platform !== 'win32') return value
  const other = Object.keys(environment).find(each => each.toLowerCase() === name.toLowerCase())
  return other === undefined ? undefined : environment[other]
}

/** Programs of Windows' OpenSSH. One that comes with Git stands earlier on many a PATH, and knows no access lists and no agent. */
const OPENSSH = ['ssh', 'ssh-keygen', 'scp', 'sftp']

/** The program as it is started: on Windows, that of the system's OpenSSH where it is installed. */
export const programFile = (
  program: string,
  environment: Environment,
  platform: NodeJS.Platform,
  exists: (path: string) => boolean = existsSync,
): string => {
  const root =
    platform === 'win32' && OPENSSH.includes(program) ? variableIn(environment, 'SystemRoot', platform) : undefined
  const path = `${root}\\System32\\OpenSSH\\${program}.exe`
  return root !== undefined && exists(path) ? path : program
}
