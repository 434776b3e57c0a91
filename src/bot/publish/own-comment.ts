/**
 * Our own comment (or link), kept up to date. It is begun in the store before it is sent, so that after a crash it is
 * looked for instead of sent twice.
 */
import type { OwnCommentKey, Store } from '../../store/port.ts'

/** Where the comment stands, and how that side finds, edits and posts it. */
export type OwnCommentSide<Text> = {
  key: OwnCommentKey
  /** The id of our comment that the store does not know. `begunAt`: when it was begun; null: never, as far as is known. */
  find(begunAt: number | null): Promise<string | null>
  /** True: this comment stays ours. False: it is gone, or another one must be posted. */
  edit(id: string, text: Text): Promise<boolean>
  /** Null: nothing may be posted. `previous`: the comment that was not edited. */
  post(text: Text, previous: string | null): Promise<{ id: string | null } | null>
}

/** Edits or posts the comment. False: it says this already, or nothing may be posted. */
export const upsert = async <Text extends { fingerprint: string }>(
  comments: Store['comments'],
  { key, find, edit, post }: OwnCommentSide<Text>,
  text: Text,
): Promise<boolean> => {
  const known = await comments.get(key)
  if (known !== null && known.fingerprint === text.fingerprint) return false
  const id = known?.id ?? (await find(known?.begunAt ?? null))
  if (id !== null && (await edit(id, text))) {
    await comments.set(key, id, text.fingerprint)
    return true
  }
  // Once a stale id is forgotten, the comment that is posted now can be found after a crash.
  if (id !== null) await comments.forget(key)
  await comments.begin(key)
  const posted = await post(text, id)
  await comments.set(key, posted?.id ?? null, text.fingerprint)
  return posted !== null
}
