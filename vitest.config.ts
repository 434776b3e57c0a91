import { availableParallelism } from 'node:os'
import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Real libvirt needs root and minutes: npm run test:kvm.
    exclude: ['test/kvm/**', 'node_modules/**'],
    globalSetup: ['test/setup.ts'],
    // A process for each file takes longer to start than most files take: what one puts in a process's place, it takes back.
    isolate: false,
    // The long files wait for processes and deadlines more than they compute.
    maxWorkers: Math.max(4, availableParallelism()),
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
})
