/** The provider's promises over the real `aws` program, whose own model checks every request, and over the stand-in. */
import { afterAll, describe } from 'vitest'
import { aws } from '../../../providers/aws/description.ts'
import { openAwsBench } from '../../support/ec2/bench.ts'
import { openEc2 } from '../../support/ec2/ec2.ts'
import { noAws } from '../../support/ec2/program.ts'
import { isLong } from '../../support/samples.ts'
import { keepsItsPromises } from '../conformance.ts'

const MACHINES = { 'stand-in': 3, real: 1 }

for (const kind of ['stand-in', 'real'] as const) {
  const missing = kind === 'real' ? (isLong ? noAws() : 'it takes minutes') : null
  if (missing !== null && isLong) process.stderr.write(`Left out: the real aws. ${missing}\n`)
  describe.skipIf(missing !== null)(`with the ${kind} aws${missing === null ? '' : ` (left out: ${missing})`}`, () => {
    const ec2 = openEc2({ looks: kind === 'real' ? { change: 1, shown: 1 } : { change: 2, shown: 1 } })
    afterAll(ec2.close)
    keepsItsPromises({ ...aws, name: `aws (${kind})` }, () => openAwsBench(kind, ec2), {
      machines: MACHINES[kind],
      timeout: 1_800_000,
    })
  })
}
