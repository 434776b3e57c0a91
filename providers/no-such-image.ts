/** What is said where a base image is missing: each provider names its own way to make one. */
import { fail } from '../src/errors.ts'
import type { ImageBeginning } from './provider.ts'

/** Of a provider that says nothing of its own. */
export const ANY_FILE: ImageBeginning = { from: 'FILE', or: 'an image at an https address' }

/** The command that makes the image. */
export const initBase = (name: string, { from }: ImageBeginning): string =>
  `agent-swarm init-base ${name}${from === null ? '' : ` --from ${from}`}`

/** `also`: what else is known, for the message. */
export const noSuchImage = (name: string, beginning: ImageBeginning, also = '') =>
  fail(
    'no-such-image',
    `the base image ${name} does not exist${also}`,
    `Make it: ${initBase(name, beginning)} (or ${beginning.or}).`,
  )
