import { defineConfig } from 'vitest/config'

/** Real libvirt, one file after the other: the machine has few processors, and the guests share them. */
export default defineConfig({
  test: {
    include: ['test/kvm/**/*.test.ts'],
    globalSetup: ['test/setup.ts'],
    fileParallelism: false,
    // A process for each file: one of them becomes another user.
    pool: 'forks',
    testTimeout: 15 * 60_000,
    hookTimeout: 20 * 60_000,
  },
})
