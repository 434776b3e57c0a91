/** Preloaded into a command (`NODE_OPTIONS=--import`): a synthetic machine is never restored, since an outside command hangs. */
import { synthetic } from '../../providers/synthetic/description.ts'

const { open } = synthetic
synthetic.open = async tools => {
  const provider = await open?.(tools)
  if (provider === undefined) throw new Error('synthetic cannot be opened')
  return {
    ...provider,
    restore: async (...words) => {
      // Not another home's.
      await provider.status(words[0])
      await tools.run('sleep', ['600'], { deadline: 600_000 })
      await provider.restore(...words)
    },
  }
}
