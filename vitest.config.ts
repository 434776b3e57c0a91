import { readFileSync, statfsSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { defineConfig } from 'vitest/config'

const processors = availableParallelism()

/** A folder in memory for the databases and homes of unit tests: half of their time was waiting for the disk. */
const memoryFolder = (): { TMPDIR?: string } => {
  if (process.platform !== 'linux') return {}
  const folder = '/dev/shm'
  const mount = readFileSync('/proc/mounts', 'utf8').match(/^\S+ \/dev\/shm tmpfs (\S+)/m)
  // Containers often have 64 MB there, and run no programs from it.
  if (mount === null || /\b(noexec|ro)\b/.test(mount[1] ?? '')) return {}
  const { bavail, bsize } = statfsSync(folder)
  return bavail * bsize > 1e9 ? { TMPDIR: folder } : {}
}
// Real libvirt needs root and minutes: npm run test:kvm.
const exclude = ['test/kvm/**', 'node_modules/**']

export default defineConfig({
  test: {
    globalSetup: ['test/setup.ts'],
    // Starting a process for each file takes longer than most files: a file undoes what it changes in its process.
    isolate: false,
    // For a machine that is ten times slower than usual; test/support/wait.ts gives up before that.
    testTimeout: 300_000,
    hookTimeout: 300_000,
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          env: memoryFolder(),
          include: ['test/**/*.test.ts'],
          exclude: [...exclude, 'test/**/*.process.test.ts'],
          maxWorkers: processors,
        },
      },
      {
        extends: true,
        test: {
          name: 'process',
          include: ['test/**/*.process.test.ts'],
          exclude,
          // These files wait for processes and deadlines more than they compute.
          maxWorkers: Math.max(4, processors),
          // Projects with another number of workers run one after the other.
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
})
