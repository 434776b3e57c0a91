/** Names of VMs hold the marks, so they parse back, and nothing else parses. */
import { is } from 'valibot'
import { expect, test } from 'vitest'
import { type Mark, parseVmName, vmName } from '../../../providers/tart/marks.ts'
import { tartSettings } from '../../../providers/tart/settings.ts'

const home = '00112233445566ff'
const vmId = 'as-drop-2100-1a2b3c4d'
const longest = `as-${'x'.repeat(51)}-1a2b3c4d`

test.for<[string, Mark]>([
  [`${vmId}.DROP-2100.${home}`, { kind: 'machine', vmId, ticket: 'DROP-2100', home }],
  [`${vmId}.A_B-1.${home}`, { kind: 'machine', vmId, ticket: 'A_B-1', home }],
  [`${vmId}.A_B-1_2.${home}`, { kind: 'machine', vmId, ticket: 'A_B-1~2', home }],
  [`${vmId}.none.${home}`, { kind: 'machine', vmId, ticket: null, home }],
  [`${vmId}.DROP-1.restored.${home}`, { kind: 'restored', vmId, ticket: 'DROP-1', home }],
  [`${vmId}.none.restored.${home}`, { kind: 'restored', vmId, ticket: null, home }],
  [`${vmId}.new.${home}`, { kind: 'new', vmId, home }],
  [
    `${vmId}.running.0007.push-1a2b3c4.${home}`,
    { kind: 'checkpoint', vmId, order: 7, name: 'push-1a2b3c4', wasRunning: true, home },
  ],
  [
    `${vmId}.stopped.12345.new.${home}`,
    { kind: 'checkpoint', vmId, order: 12_345, name: 'new', wasRunning: false, home },
  ],
  [`agent-swarm-base.golden.${home}`, { kind: 'image', name: 'golden', home }],
  [
    `${longest}.running.999999999.${'c'.repeat(41)}.${home}`,
    { kind: 'checkpoint', vmId: longest, order: 999_999_999, name: 'c'.repeat(41), wasRunning: true, home },
  ],
])('%s', ([name, mark]) => {
  expect(parseVmName(name)).toEqual(mark)
  expect(vmName(mark)).toBe(name)
  // A folder's name, and Tart's own socket in it.
  expect(name.length).toBeLessThan(200)
  expect(name).toMatch(/^[a-z0-9]/)
})

test.for([
  vmId,
  `${vmId}.${home}`,
  `${vmId}.DROP-2100`,
  `${vmId}.drop-2100.${home}`,
  `${vmId}.DROP-0.${home}`,
  `${vmId}.DROP-1~1.${home}`,
  `${vmId}.DROP-1_0.${home}`,
  `${vmId}.DROP-1_100.${home}`,
  `${vmId}.DROP-2100.${home}\n`,
  ` ${vmId}.DROP-2100.${home}`,
  `${vmId}.DROP-2100.${home}.copy`,
  `${vmId}.DROP-2100.00112233445566FF`,
  `${vmId}.DROP-2100.0011`,
  `${vmId}.running.7.one.${home}`,
  `${vmId}.running.0007.ONE.${home}`,
  `${vmId}.running.0007.-one.${home}`,
  `${vmId}.paused.0007.one.${home}`,
  `${vmId}/../x.none.${home}`,
  `agent-swarm-base.Golden.${home}`,
  `agent-swarm-base.${home}`,
  'debian',
  'ghcr.io/cirruslabs/debian:latest',
  '',
])('%j is not ours', name => expect(parseVmName(name)).toBeNull())

test.for<[string, () => string]>([
  ['a ticket', () => vmName({ kind: 'machine', vmId, ticket: '../../x', home })],
  ['a machine', () => vmName({ kind: 'new', vmId: '-rf', home })],
  ['a checkpoint', () => vmName({ kind: 'checkpoint', vmId, name: '--x', order: 1, wasRunning: true, home })],
  ['an image', () => vmName({ kind: 'image', name: 'a/b', home })],
])('%s that is not one never becomes part of a name', ([, name]) => {
  expect(name).toThrow(expect.objectContaining({ failure: expect.objectContaining({ kind: 'usage' }) }))
})

test.for<[string, boolean]>([
  ['/Volumes/fast/tart', true],
  ['~/tart', false],
  ['tart', false],
  ['', false],
])('%j as the folder of Tart: %s', ([path, expected]) => {
  expect(is(tartSettings.tartHome.form, path)).toBe(expected)
})
