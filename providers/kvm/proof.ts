/** The proof that machines are isolated here: one tries to reach the host, which listens. Made at each build of an image. */

import { randomInt } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { join } from 'node:path'
import * as v from 'valibot'
import { writeFileAtomic } from '../../src/files.ts'
import { addressText } from '../ipv4.ts'
import type { Context } from './context.ts'
import type { Isolator } from './isolation.ts'

const proofForm = v.object({ at: v.string(), reached: v.array(v.string()) })
/** `reached`: `192.168.177.1:40000` and the like; empty when nothing was reached. */
type Proof = v.InferOutput<typeof proofForm>

const fileOf = ({ home }: Pick<Context, 'home'>) => join(home, 'kvm', 'isolation.json')

/** Null: none was made, or its file is damaged. */
export const readProof = (context: Pick<Context, 'home'>): Proof | null => {
  const file = fileOf(context)
  if (!existsSync(file)) return null
  try {
    return v.parse(proofForm, JSON.parse(readFileSync(file, 'utf8')))
  } catch {
    return null
  }
}

const TRY_S = 3

/** Resolves with a server, or null when the port is taken. Each connection is an arrival. */
const listen = (host: string, port: number, onArrival: () => void): Promise<Server | null> =>
  new Promise(resolve => {
    const server = createServer(socket => {
      onArrival()
      socket.destroy()
    })
    server.once('error', () => resolve(null))
    server.listen(port, host, () => resolve(server))
  })

/** The script tries each port, and the gateway's DNS as well, to show that it can reach anything. */
const tryScript = (host: string, ports: readonly number[]): string =>
  [
    ...ports.map(port => `timeout ${TRY_S} bash -c 'echo > /dev/tcp/${host}/${port}' 2>/dev/null &`),
    `timeout ${TRY_S} bash -c 'echo > /dev/tcp/${host}/53' && echo tried`,
    'wait',
  ].join('\n')

/**
 * Listens on the gateway, on a port that answers of a guest may go to and on one below those, and lets the guest connect.
 * `runInGuest` runs a script there. Remembers the result when the guest could reach its gateway at all.
 */
export const proveIsolation = async (
  context: Context,
  { surroundings }: Isolator,
  runInGuest: (script: string) => Promise<string>,
): Promise<void> => {
  const host = addressText(surroundings.gateway)
  const { from, to } = surroundings.ephemeral
  const reached = new Set<string>()
  const ports = [randomInt(Math.min(20_000, from - 1), from), randomInt(from, to + 1)]
  const servers = await Promise.all(ports.map(port => listen(host, port, () => reached.add(`${host}:${port}`))))
  try {
    const output = await runInGuest(tryScript(host, ports))
    if (output.includes('tried') && servers.every(server => server !== null))
      writeFileAtomic(
        fileOf(context),
        JSON.stringify({ at: new Date().toISOString().slice(0, 16), reached: [...reached] } satisfies Proof),
      )
  } finally {
    for (const server of servers) server?.close()
  }
}
