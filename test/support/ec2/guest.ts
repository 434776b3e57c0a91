/** A guest with our files in it, whose disk is a folder: what it answers to what the product asks over SSH. */
import { execFile } from 'node:child_process'
import { guestHash } from '../../../src/runner/link/guest-files.ts'
import type { Ec2 } from './ec2.ts'
import type { Guest } from './program.ts'

const answer = (stdout: string, exitCode = 0) => ({ stdout, stderr: '', exitCode })

/** By a word of each script. A person's command runs in the machine's folder. */
export const guestOn =
  (ec2: Ec2): Guest =>
  (vmId, command, input) => {
    if (command.startsWith('cat ') && command.includes('/hash')) return answer(`${guestHash()}\n`)
    if (command === 'true') return answer('')
    if (command === 'sudo -n sh -s') {
      if (input.includes('swarm_steps=here') && input.startsWith('set -- verify'))
        return answer('proven boot it boots\n')
      if (input.includes('swarm_steps=here')) return answer('step packages\nstep boot\n')
      if (input.includes('echo sealed')) return answer(`machine-id ${'a'.repeat(32)}\nsealed\n`)
      if (input.includes('login-keys'))
        return answer(`machine-id ${'b'.repeat(32)}\nhostname ${vmId}\nhost-keys 1\nlogin-keys 1\n`)
      if (input.includes('dpkg-query')) return answer('git 1:2.39\nsudo 1.9\n')
      if (input.includes('clock ')) return answer(`clock ${Date.now() / 1000}\nrandom mixed\n`)
      return answer('end\n')
    }
    const disk = ec2.rootFolder(vmId)
    return new Promise(resolve => {
      execFile(
        '/bin/sh',
        ['-c', command],
        { cwd: disk, env: { HOME: disk, PATH: process.env.PATH } },
        (error, stdout) => resolve(answer(stdout, error === null ? 0 : 1)),
      )
    })
  }
