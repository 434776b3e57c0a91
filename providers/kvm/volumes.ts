/** Commands on volumes of the pool. */
import { statSync } from 'node:fs'
import { unless } from '../../src/errors.ts'
import type { Context } from './context.ts'
import { listVolumes } from './host.ts'
import type { Command } from './virsh.ts'

type Of = Pick<Context, 'settings'>

export const volumeInfo = ({ settings }: Of, volume: string): Command => [
  ...['vol-info', '--pool', settings.kvmPool, volume, '--bytes'],
]
export const deleteVolume = ({ settings }: Of, volume: string): Command => [
  ...['vol-delete', '--pool', settings.kvmPool, volume],
]
export const makeVolume = ({ settings }: Of, volume: string, bytes = 0): Command => [
  ...['vol-create-as', settings.kvmPool, volume, `${bytes}B`, '--format', 'raw'],
]
/** A new volume with the bytes of the file. */
export const uploadAs = (of: Of, volume: string, file: string): Command[] => [
  makeVolume(of, volume, statSync(file).size),
  ['vol-upload', '--pool', of.settings.kvmPool, volume, file],
]

/** Done as well when it does not exist. */
export const removeVolume = (context: Context, volume: string, doing?: string): Promise<unknown> =>
  context.virsh
    .run(deleteVolume(context, volume), doing === undefined ? {} : { doing })
    .catch(unless(async () => !(await listVolumes(context)).includes(volume)))
