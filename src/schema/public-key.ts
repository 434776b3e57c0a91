/** People's public SSH keys, as one line of authorized_keys without options. */
import * as v from 'valibot'

const TYPES = [
  'ssh-ed25519',
  'ssh-rsa',
  'ecdsa-sha2-nistp(?:256|384|521)',
  'sk-ssh-ed25519@openssh\\.com',
  'sk-ecdsa-sha2-nistp256@openssh\\.com',
]
const PUBLIC_KEY = new RegExp(
  `^(?:${TYPES.join('|')}) [A-Za-z0-9+/]{40,2000}={0,3}(?: [^\\p{C}\\p{Zl}\\p{Zp}]{1,200})?$`,
  'u',
)

export const isPublicKey = (text: string): boolean => PUBLIC_KEY.test(text)

/** `/home/alice/.ssh/id_ed25519.pub`, `C:\keys.pub`. */
const ABSOLUTE_PATH = /^(?:\/|[A-Za-z]:[\\/])[^\p{C}]{1,1000}$/u

/** A key, or a file with keys. */
export const keyOrFile = v.pipe(
  v.string('must be text'),
  v.check(
    text => isPublicKey(text) || ABSOLUTE_PATH.test(text),
    'must be a public SSH key (ssh-ed25519 AAAA…, without options), or the absolute path of a file with some',
  ),
)
