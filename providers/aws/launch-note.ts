/**
 * The note of a launch under way. AWS may not show an instance for some seconds after it was made: whoever finds the note of a
 * launch that was killed looks for its machine longer before they believe that there is none.
 */
import { existsSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { writeFileAtomic } from '../../src/files.ts'
import { folderOf } from './aws.ts'
import { type Context, checkId } from './context.ts'

const fileOf = (context: Context, vmId: string) => join(folderOf(context), `launching-${checkId(vmId)}`)

export const noteLaunch = (context: Context, vmId: string): void => writeFileAtomic(fileOf(context, vmId), '')
export const forgetLaunch = (context: Context, vmId: string): void => rmSync(fileOf(context, vmId), { force: true })
export const isLaunchNoted = (context: Context, vmId: string): boolean => existsSync(fileOf(context, vmId))
