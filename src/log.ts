/** Logging by pino. No payload, no secret: what is logged is chosen field by field, and known secret names are cut out. */
import { pino } from 'pino'
import { failureOf } from './errors.ts'

const SECRET_NAMES = [
  'authorization',
  'password',
  'token',
  'apiToken',
  'secret',
  'privateKey',
  'webhookSecret',
  'cookie',
]

export type Log = ReturnType<typeof openLog>

/** `secrets` are values that may turn up inside any text: each is replaced wherever it occurs. */
export const openLog = (level: string, secrets: readonly string[] = []) => {
  // As it stands and as JSON writes it: a private key has line breaks.
  const hidden = secrets
    .filter(secret => secret.length >= 6)
    .flatMap(secret => [secret, JSON.stringify(secret).slice(1, -1)])
  const clean = (text: string) => hidden.reduce((rest, secret) => rest.replaceAll(secret, '[redacted]'), text)
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      redact: {
        paths: SECRET_NAMES.flatMap(name => [name, `*.${name}`, `*.*.${name}`, `*.*.*.${name}`]),
        censor: '[redacted]',
      },
      // An error of ours is its failure; a foreign one only its message: octokit's carry the request, headers and all.
      serializers: {
        err: error => ({ ...failureOf(error, 'unexpected'), stack: error instanceof Error ? error.stack : undefined }),
      },
    },
    { write: (line: string) => void process.stderr.write(clean(line)) },
  )
}
