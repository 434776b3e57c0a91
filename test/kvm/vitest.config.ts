import { defineConfig } from 'vitest/config'

const files = 'test/kvm/**/*.test.ts'
const last = 'test/kvm/delete.test.ts'

/** Real libvirt, one file after the other: the guests share few processors. */
export default defineConfig({
  test: {
    globalSetup: ['test/setup.ts'],
    fileParallelism: false,
    // A process for each file: some of them become another user.
    pool: 'forks',
    testTimeout: 15 * 60_000,
    hookTimeout: 20 * 60_000,
    // Group 0, the default, would run last.
    projects: [
      { extends: true, test: { name: 'machines', include: [files], exclude: [last], sequence: { groupOrder: 1 } } },
      // It deletes the machines that the others begin with.
      { extends: true, test: { name: 'delete', include: [last], sequence: { groupOrder: 2 } } },
    ],
  },
})
