/** The keys of the models, in files of this home: one a maker. They never leave this process but to the maker. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { secretFileFault } from '../../config/secret-file.ts'
import { fail, isFailure } from '../../errors.ts'
import type { Api } from './apis.ts'

const MAX_KEY = 4_000

export const keyFile = (home: string, api: Api['name']): string => join(home, 'model-keys', api)

/** Read each time: a new key holds at once. Throws `not-configured` with what the operator has to do. */
export const modelKey = (home: string, api: Api['name']): string => {
  const file = keyFile(home, api)
  try {
    const fault = secretFileFault(file)
    if (fault?.isFinal === true) throw fail('not-configured', fault.text)
    const key = readFileSync(file, 'utf8').trim()
    if (/^[!-~]+$/.test(key) && key.length <= MAX_KEY) return key
    throw fail('not-configured', `${file} does not hold a key: one line of printable characters is expected`)
  } catch (error) {
    if (isFailure(error)) throw error
    throw fail(
      'not-configured',
      `the key of the model is missing: ${file} cannot be read`,
      `Write the key of the ${api === 'anthropic' ? 'Anthropic' : 'OpenAI'} API into this file, on the host of the runner, for its owner alone (chmod 600).`,
    )
  }
}
