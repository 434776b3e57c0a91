/** What the App needs: what app.yml lists, and what a feature adds that the operator turns on. */
import { readFileSync } from 'node:fs'
import { findPackageJSON } from 'node:module'
import { join } from 'node:path'
import * as v from 'valibot'
import type { Config } from '../../config/config.ts'

export type Features = Partial<Pick<Config, 'agent' | 'transitions' | 'workspace'>>
type Level = 'read' | 'write' | 'admin'
type Feature = {
  isOn: (features: Features) => boolean
  permissions: Readonly<Record<string, Level>>
  events: readonly string[]
  /** For people: what does not work without it. */
  use: string
  /** The rest of the feature works without it. */
  isOptional?: true
}

/** Reviews come with the permission for pull requests, check suites with that for checks. */
const FEATURES: readonly Feature[] = [
  {
    isOn: ({ agent }) => agent !== null && agent !== undefined,
    permissions: { contents: 'write' },
    events: [],
    use: 'the agent (`agent`) pushes with it',
  },
  {
    isOn: ({ agent }) => (agent?.rounds ?? 0) > 0,
    permissions: { checks: 'read' },
    events: ['pull_request_review', 'check_suite'],
    use: 'reviews and failed checks (`agent.rounds`) need it',
  },
  {
    isOn: ({ transitions }) => transitions?.pullRequest !== undefined,
    permissions: { contents: 'write' },
    events: [],
    use: 'pull requests of pushes (`transitions.pullRequest`) need it',
  },
  {
    isOn: ({ workspace = {} }) => Object.keys(workspace).length > 0,
    permissions: { contents: 'write' },
    events: [],
    use: 'people in a machine push with it (`workspace`)',
    isOptional: true,
  },
]
/** Of app.yml: one feature alone needs it. */
const MEMBERS = { use: 'rules that name teams need it', isOptional: true } as const

/** Whether the operator turned on anything that needs more than app.yml. */
export const needsMore = (features: Features): boolean => FEATURES.some(({ isOn }) => isOn(features))

const manifest = v.looseObject({
  name: v.string(),
  default_permissions: v.record(v.string(), v.picklist(['read', 'write', 'admin'])),
  default_events: v.array(v.string()),
})
export type Manifest = v.InferOutput<typeof manifest>

export const LEVELS = ['none', 'read', 'write', 'admin']
export const levelOf = (value: unknown) => Math.max(0, LEVELS.indexOf(String(value)))

/** The manifest of an App for these features. */
export const readManifest = async (features: Features): Promise<Manifest> => {
  const root = findPackageJSON(import.meta.url)
  if (root === undefined) throw new Error('package.json is missing: this copy of agent-swarm is incomplete')
  const { parse } = await import('yaml')
  const base = v.parse(manifest, parse(readFileSync(join(root, '../app.yml'), 'utf8')))
  const on = FEATURES.filter(({ isOn }) => isOn(features))
  const permissions = { ...base.default_permissions }
  for (const [name, level] of on.flatMap(feature => Object.entries(feature.permissions)))
    if (levelOf(permissions[name]) < levelOf(level)) permissions[name] = level
  const events = new Set([...base.default_events, ...on.flatMap(feature => feature.events)])
  return { ...base, default_permissions: permissions, default_events: [...events] }
}

/** Why a permission or an event is needed beyond app.yml; null when everything needs it. */
export const useOf = (
  features: Features,
  needed: { permission: string; granted: unknown } | { event: string },
): Pick<Feature, 'use' | 'isOptional'> | null => {
  if ('permission' in needed && needed.permission === 'members') return MEMBERS
  const needs = FEATURES.filter(
    ({ isOn, permissions, events }) =>
      isOn(features) &&
      ('event' in needed
        ? events.includes(needed.event)
        : levelOf(permissions[needed.permission]) > levelOf(needed.granted)),
  )
  return needs.find(({ isOptional }) => isOptional !== true) ?? needs[0] ?? null
}
