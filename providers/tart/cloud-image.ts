/** The cloud image that a build begins with when nobody names one. Its build has not been tried: it needs a Mac. */
import type { CloudImage, ImageBeginning } from '../provider.ts'

const FOLDER = 'https://cloud-images.ubuntu.com/releases/noble/release'

export const ubuntuArm64: CloudImage = {
  label: 'Ubuntu 24.04 LTS for arm64 (unproven)',
  url: `${FOLDER}/ubuntu-24.04-server-cloudimg-arm64.img`,
  checksums: `${FOLDER}/SHA256SUMS`,
}

export const beginning: ImageBeginning = { from: null, or: 'with --from FILE, a cloud image for arm64' }
