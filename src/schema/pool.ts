/** The operator's setting `pool`: machines that are kept ready, of a base image or of a repository. */
import * as v from 'valibot'
import { poolName } from '../domain.ts'
import { closedObject, imageName, integer, oneOf, repositoryName } from './forms.ts'
import { member } from './workspace.ts'

const MOST_READY = 50
/** Of one that is being made, and the template. */
const MORE = 2

const entry = v.pipe(
  closedObject({
    image: member(imageName, 'The base image of the machines. Either this or `repository`.', 'agent-swarm-base'),
    repository: member(
      repositoryName,
      'The repository that is cloned and set up in them, at the newest commit of its default branch. They have the image and the size that its `.github/agent-swarm.yml` asks for.',
      'acme/shop',
    ),
    ready: member(integer(1, MOST_READY), 'How many machines are kept ready. Default: 1.', 2),
    most: member(
      integer(1, 2 * MOST_READY),
      `How many machines of this pool exist at most, with those that are being made and the template that others are forked from. Default: \`ready\` and ${MORE} more.`,
      4,
    ),
    hold: member(
      oneOf('memory', 'disk'),
      'Where a ready machine has its memory: on the host (`memory`), or saved to its disk (`disk`; it takes nothing of the host but space). Default: `memory`.',
      'disk',
    ),
  }),
  v.check(
    ({ image, repository }) => (image === undefined) !== (repository === undefined),
    'must name an image or a repository, and not both',
  ),
  v.check(({ ready = 1, most }) => most === undefined || most >= ready, 'must have `most` no smaller than `ready`'),
  v.transform(({ image = null, repository = null, ready = 1, most, hold = 'memory' }) => ({
    ...{ image, repository, ready, hold },
    most: most ?? ready + MORE,
  })),
)
export type Pool = v.InferOutput<typeof entry>

export const pools = v.pipe(
  v.array(entry, 'must be a list'),
  v.maxLength(20, 'has more than 20 members'),
  v.check(all => new Set(all.map(poolName)).size === all.length, 'names an image or a repository twice'),
)
