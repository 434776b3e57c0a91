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

/**
 * Where Windows has its own programs, below SystemRoot. Git brings an `ssh` that knows no access lists and no agent, and a `whoami`
 * of its own, and stands earlier on many a PATH.
 */
const FOLDERS: Readonly<Record<string, string>> = {
  ...Object.fromEntries(['ssh', 'ssh-keygen', 'scp', 'sftp'].map(name => [name, 'System32\\OpenSSH'])),
  ...Object.fromEntries(['whoami', 'icacls', 'schtasks'].map(name => [name, 'System32'])),
  powershell: 'System32\\WindowsPowerShell\\v1.0',
}

/** The program as it is started: on Windows, the system's own where it is installed. */
export const programFile = (
  program: string,
  environment: Environment,
  platform: NodeJS.Platform,
  exists: (path: string) => boolean = existsSync,
): string => {
  if (platform !== 'win32') return program
  const name = program.replace(/\.exe$/i, '')
  const root = variableIn(environment, 'SystemRoot', platform)
  const path = `${root}\\${FOLDERS[name]}\\${name}.exe`
  return root !== undefined && FOLDERS[name] !== undefined && exists(path) ? path : program
}
