import { describe, expect, test } from 'vitest'
import type { MachineSpec } from '../../src/schema/action.ts'
import type { Offer } from '../../src/schema/runner-protocol.ts'
import { fits, hasRoom, whyNever } from '../../src/store/fits.ts'
import { actionOf, offer, withFree } from './fixtures.ts'

const [kvm] = offer.providers
const images = (...names: string[]): Offer => ({
  ...offer,
  providers: kvm === undefined ? [] : [{ ...kvm, images: names }],
})

describe('why a runner can never take a create', () => {
  test.for([
    ['the defaults fit', {}, offer, null],
    ['no hypervisor', {}, { ...offer, defaults: { ...offer.defaults, provider: null } }, /no hypervisor/],
    ['another hypervisor', {}, { ...offer, defaults: { ...offer.defaults, provider: 'tart' } }, /no hypervisor/],
    ['its images', { baseImage: 'debian-13' }, offer, /no base image debian-13 \(it has agent-swarm-base\)/],
    ['no image at all', {}, images(), /no base image agent-swarm-base$/],
    ['images that are not listed', { baseImage: 'x' }, { ...offer, providers: [{ ...kvm, images: null }] }, null],
    ['above its limit', { cpus: 9 }, offer, /cpus 9 is above its limit of 8/],
    ['at its limit', { cpus: 8, memoryMiB: 8192, diskGiB: 100 }, offer, null],
    ['a default above the limit', {}, { ...offer, limits: { cpus: 1, memoryMiB: 1, diskGiB: 1 } }, null],
    [
      'a host that is too small',
      { memoryMiB: 8192 },
      {
        ...offer,
        room: { free: { cpus: 64, memoryMiB: 0, diskGiB: 0 }, empty: { cpus: 64, memoryMiB: 8191, diskGiB: 9 } },
      },
      /has 7.9 GiB of memory in all/,
    ],
    ['a host that is full for now', { memoryMiB: 8192 }, withFree(0), null],
  ] as [string, MachineSpec, Offer, RegExp | null][])('%s', ([, machine, offered, expected]) => {
    const never = whyNever({ machine }, offered)
    if (expected === null) expect(never).toBeNull()
    else expect(never).toMatchObject({ reason: expect.stringMatching(expected), remedy: expect.stringMatching(/./) })
  })
})

test('a create waits for memory alone, and not when the host could not be asked', () => {
  expect(hasRoom({ machine: { memoryMiB: 4096 } }, withFree(4096))).toBe(true)
  expect(hasRoom({ machine: { memoryMiB: 4096 } }, withFree(4095))).toBe(false)
  expect(hasRoom({}, withFree(2047))).toBe(false)
  expect(hasRoom({ machine: { memoryMiB: 4096 } }, offer)).toBe(true)
})

test('an action on an existing machine fits everywhere', () => {
  expect(fits(actionOf('start'), { ...withFree(0), providers: [] })).toBe(true)
  expect(fits(actionOf('create'), withFree(0))).toBe(false)
  expect(fits(actionOf('create'), withFree(2048))).toBe(true)
})
