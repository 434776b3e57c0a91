/**
 * What machines cost: the operator's table, or what AWS's price list says. The list is asked when a machine is made, at most once
 * a day for a type, and kept in a file with its date; looking at machines asks nothing.
 */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import * as v from 'valibot'
import { isFailure } from '../../src/errors.ts'
import { writeFileAtomic } from '../../src/files.ts'
import type { MachinePrice } from '../../src/schema/machine.ts'
import { type Command, folderOf } from './aws.ts'
import { type Context, ownMachines } from './context.ts'
import type { Instance } from './parse.ts'

/** The price list is served in a few regions, and is about all of them. */
const LIST_REGION = 'us-east-1'
const GET_PRODUCTS: Command = 'pricing get-products'
/** A create waits for it: some hosts have no way to the price list. */
const DEADLINE_MS = 15_000
const FRESH_MS = 24 * 60 * 60_000

/** By region and instance type. Dates are ISO 8601. `price` null: the list has none, or has never answered. */
const remembered = v.record(
  v.string(),
  v.object({
    askedAt: v.string(),
    price: v.nullable(v.object({ usdPerHour: v.pipe(v.number(), v.minValue(0)), at: v.string() })),
  }),
)
type Remembered = v.InferOutput<typeof remembered>

const fileIn = (context: Context) => join(folderOf(context), 'prices.json')
const readPrices = (context: Context): Remembered => {
  const file = fileIn(context)
  try {
    return existsSync(file) ? v.parse(remembered, JSON.parse(readFileSync(file, 'utf8'))) : {}
  } catch {
    return {}
  }
}

// ── The price list ──

const products = v.object({ PriceList: v.array(v.union([v.string(), v.looseObject({})])) })
/** A product of the list, which is JSON within JSON. */
const product = v.object({
  terms: v.object({
    OnDemand: v.record(
      v.string(),
      v.object({
        priceDimensions: v.record(
          v.string(),
          v.object({ unit: v.string(), pricePerUnit: v.object({ USD: v.optional(v.string()) }) }),
        ),
      }),
    ),
  }),
})

/** The hourly price that the products name; null when they name none, or several. */
export const hourlyPrice = (list: readonly unknown[]): number | null => {
  const prices = new Set<number>()
  for (const entry of list) {
    let value: unknown = entry
    try {
      value = typeof entry === 'string' ? JSON.parse(entry) : entry
    } catch {
      continue
    }
    const read = v.safeParse(product, value)
    if (!read.success) continue
    for (const { priceDimensions } of Object.values(read.output.terms.OnDemand))
      for (const { unit, pricePerUnit } of Object.values(priceDimensions)) {
        const dollars = Number(pricePerUnit.USD)
        if (unit === 'Hrs' && Number.isFinite(dollars) && dollars > 0) prices.add(dollars)
      }
  }
  const [price] = prices
  return prices.size === 1 && price !== undefined ? price : null
}

const filters = (region: string, type: string) =>
  Object.entries({
    instanceType: type,
    regionCode: region,
    operatingSystem: 'Linux',
    preInstalledSw: 'NA',
    tenancy: 'Shared',
    capacitystatus: 'Used',
  }).map(([Field, Value]) => ({ Type: 'TERM_MATCH', Field, Value }))

const keyOf = (region: string, type: string) => `${region} ${type}`
/** `eu-central-1` of its zone `eu-central-1a`. Null in a local zone, whose prices are others. */
const regionOf = ({ Placement }: Instance): string | null =>
  /^([a-z]{2}(?:-[a-z]+)+-\d)[a-z]$/.exec(Placement?.AvailabilityZone ?? '')?.[1] ?? null

/** Null: the list names none. Undefined where the account may not ask, or has no way to the list. */
const askForPrice = async ({ aws }: Context, region: string, type: string): Promise<number | null | undefined> => {
  try {
    const input = { ServiceCode: 'AmazonEC2', Filters: filters(region, type) }
    const doing = `asking for the price of ${type}`
    const options = { doing, region: LIST_REGION, deadline: DEADLINE_MS }
    return hourlyPrice((await aws.ask(GET_PRODUCTS, input, products, options)).PriceList)
  } catch (error) {
    if (!isFailure(error) || error.failure.kind === 'cancelled') throw error
    return undefined
  }
}

/**
 * Asks for the price of the machine's type, unless it was asked for within a day. Nothing depends on the answer. A list that does not
 * answer leaves the price as it was, and is not asked again that day: each create would wait for it.
 */
export const learnPrice = async (context: Context, instance: Instance): Promise<void> => {
  const { InstanceType: type } = instance
  const region = regionOf(instance)
  if (context.settings.awsPrices !== null || region === null) return
  const key = keyOf(region, type)
  const known = readPrices(context)[key]
  if (known !== undefined && Date.now() - Date.parse(known.askedAt) < FRESH_MS) return
  try {
    const usdPerHour = await askForPrice(context, region, type)
    const askedAt = new Date().toISOString()
    const found = typeof usdPerHour === 'number' ? { usdPerHour, at: askedAt } : null
    const price = usdPerHour === undefined ? (known?.price ?? null) : found
    writeFileAtomic(fileIn(context), JSON.stringify({ ...readPrices(context), [key]: { askedAt, price } }))
  } catch (error) {
    // Without an entry, the next create asks.
    if (!isFailure(error)) throw error
  }
}

// ── Of machines ──

/** Both have prices on demand, which those of Spot machines do not exceed. */
const priceOf = ({ settings: { awsPrices } }: Context, prices: Remembered, instance: Instance): MachinePrice => {
  const { InstanceType: type } = instance
  const region = regionOf(instance)
  const isSpot = instance.SpotInstanceRequestId !== undefined
  if (awsPrices !== null) {
    const usdPerHour = awsPrices.hourly[type] ?? null
    const at = usdPerHour === null ? null : awsPrices.date
    return { usdPerHour, isUpperBound: usdPerHour !== null && isSpot, at, source: 'awsPrices' }
  }
  const known = region === null ? null : (prices[keyOf(region, type)]?.price ?? null)
  return known === null
    ? { usdPerHour: null, isUpperBound: false, at: null, source: GET_PRODUCTS }
    : { usdPerHour: known.usdPerHour, isUpperBound: isSpot, at: known.at.slice(0, 10), source: GET_PRODUCTS }
}

/** All our machines, by vmId. */
export const pricesOfMachines = async (context: Context): Promise<Map<string, MachinePrice>> => {
  const machines = await ownMachines(context)
  const prices = readPrices(context)
  return new Map(machines.map(({ mark, instance }) => [mark.vmId, priceOf(context, prices, instance)]))
}
