import { OUTDATED, type OwnComment, type OwnCommentKey, type Store } from '../port.ts'
import type { Sql } from './sql.ts'

const keyOf = (key: OwnCommentKey) => ({
  side: key.side,
  kind: key.kind,
  place: key.side === 'github' ? key.repo : key.ticket,
  number: key.side === 'github' ? key.number : 0,
  about: key.about,
})
const SAME = 'side = ? and kind = ? and place = ? and number = ? and about = ?'

export const openComments = (sql: Sql): Store['comments'] => ({
  get: async key =>
    sql.get<OwnComment>(
      `select begun_at, id, fingerprint from own_comment where ${SAME}`,
      ...Object.values(keyOf(key)),
    ) ?? null,
  begin: async key => void sql.add('own_comment', { ...keyOf(key), begunAt: sql.clock() }),
  set: async (key, id, fingerprint) => {
    const now = sql.clock()
    sql.run(
      `insert into own_comment (side, kind, place, number, about, begun_at, set_at, id, fingerprint)
       values (?, ?, ?, ?, ?, ?, ?, ?, ?)
       on conflict do update set set_at = excluded.set_at, id = excluded.id, fingerprint = excluded.fingerprint`,
      ...[...Object.values(keyOf(key)), now, now, id, fingerprint],
    )
  },
  forget: async key => void sql.run(`delete from own_comment where ${SAME}`, ...Object.values(keyOf(key))),
  replies: async ({ repo, number }, limit) =>
    sql
      .all<{ about: string }>(
        `select about from own_comment
         where side = 'github' and kind = 'reply' and place = ? and number = ? and id is not null
           and fingerprint is not ?
         order by cast(about as integer) desc limit ?`,
        ...[repo, number, OUTDATED, limit],
      )
      .map(({ about }) => Number(about)),
  isOwn: async comment =>
    (comment.side === 'github'
      ? sql.get(
          `select 1 as n from own_comment where side = 'github' and id = ? and place = ?`,
          ...[String(comment.id), comment.repo],
        )
      : sql.get(`select 1 as n from own_comment where side = 'jira' and id = ?`, comment.id)) !== undefined,
})
