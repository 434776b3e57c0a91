/**
 * An ssh on PATH that is every guest of the stand-in: it answers at the address of a machine that runs, and runs nothing. What the
 * product asks of a guest there is answered as a healthy one would.
 */
import { chmodSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { guestHash } from '../../../src/runner/link/guest-files.ts'

const program = (root: string) => `#!${process.execPath}
const { readFileSync } = require('node:fs')
const words = process.argv.slice(2)
const [host, command = ''] = words.slice(words.indexOf('--') + 1)
const { vms } = JSON.parse(readFileSync('${root}/state.json', 'utf8'))
const vm = vms.find(each => each.notes.includes('"address":"' + host + '/'))
const isRunning = vm !== undefined && (vm.state === 'Running' || (vm.next === 'Running' && Date.now() >= vm.at))
if (!isRunning) { console.error('ssh: connect to host ' + host + ' port 22: Connection timed out'); process.exit(255) }
const script = command.startsWith('sudo -n sh') ? readFileSync(0, 'utf8') : command
if (script.includes('echo sealed')) console.log('machine-id ' + 'a'.repeat(32))
else if (script.includes('login-keys'))
  console.log('machine-id ' + 'b'.repeat(32) + '\\nhostname ' + vm.name + '\\nhost-keys 1\\nlogin-keys 1')
else if (command.startsWith('sudo -n sh')) console.log('end')
else console.log('${guestHash()}')
`

export const putGuestSsh = (standIn: { root: string }): void => {
  const path = join(standIn.root, 'bin/ssh')
  writeFileSync(path, program(standIn.root))
  chmodSync(path, 0o755)
}
