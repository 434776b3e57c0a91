/** The cloud image that a build begins with when nobody names one. Its build has not been tried: where the tests ran, it could not be downloaded. */
import type { CloudImage, ImageBeginning } from '../provider.ts'

const FOLDER = 'https://cloud-images.ubuntu.com/releases/noble/release'

export const ubuntu: CloudImage = {
  label: 'Ubuntu 24.04 LTS (unproven)',
  url: `${FOLDER}/ubuntu-24.04-server-cloudimg-amd64.img`,
  checksums: `${FOLDER}/SHA256SUMS`,
}

export const beginning: ImageBeginning = {
  from: 'debian-packages',
  or: '--from FILE, a cloud image: the packages need Debian or Ubuntu',
}
