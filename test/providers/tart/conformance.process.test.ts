import { tart } from '../../../providers/tart/description.ts'
import { openPromiseBench } from '../../support/tart/bench.ts'
import { keepsItsPromises } from '../conformance.ts'

keepsItsPromises(tart, openPromiseBench, { machines: 3, timeout: 120_000 })
