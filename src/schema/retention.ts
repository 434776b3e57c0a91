/** How long things stay that `agent-swarm prune` removes. */
import * as v from 'valibot'
import { closedObject, integer } from './forms.ts'

/** Days. */
export const RETENTION = { rescuedDays: 90, imageDays: 30, logDays: 90 } as const

const days = (name: keyof typeof RETENTION, description: string, example: number) =>
  v.optional(
    v.pipe(
      integer(1, 3650),
      v.description(`${description} Default: ${RETENTION[name]}.`),
      v.examples([example]),
    ) as v.GenericSchema<number>,
    RETENTION[name],
  )

export const retention = closedObject({
  rescuedDays: days('rescuedDays', 'Days that rescued work stays.', 365),
  imageDays: days(
    'imageDays',
    'Days that a base image stays which this home built, no machine depends on and `baseImage` does not name.',
    7,
  ),
  logDays: days(
    'logDays',
    'Days that logs of commands in the background, transcripts of agents whose machine is gone, and damaged databases that a backup replaced stay. The runner removes such transcripts by itself.',
    30,
  ),
})
