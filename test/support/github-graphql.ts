/** GitHub's GraphQL, as far as the bot uses it: the mutation minimizeComment. Errors come with status 200, as GitHub sends them. */

/** https://docs.github.com/graphql/reference/enums#reportedcontentclassifiers */
const CLASSIFIERS = ['ABUSE', 'DUPLICATE', 'OFF_TOPIC', 'OUTDATED', 'RESOLVED', 'SPAM']
const MINIMIZE =
  /^\s*mutation\s*\(\$(\w+): ID!\)\s*\{\s*minimizeComment\(input: \{ subjectId: \$(\w+), classifier: (\w+) \}\)\s*\{\s*minimizedComment\s*\{\s*isMinimized\s*\}\s*\}\s*\}\s*$/

type GraphqlAnswer = { status: number; body: unknown }
/** An error of a field: its `type` is GitHub's own. Errors of the query itself have no type and no data. */
const fieldError = (type: string, message: string): GraphqlAnswer => ({
  status: 200,
  body: {
    data: { minimizeComment: null },
    errors: [{ type, path: ['minimizeComment'], locations: [{ line: 2, column: 3 }], message }],
  },
})
const queryError = (code: string, message: string): GraphqlAnswer => ({
  status: 200,
  body: { errors: [{ path: ['mutation'], extensions: { code }, locations: [{ line: 1, column: 1 }], message }] },
})

/**
 * `mayMinimize` null: there is no such comment. `schema` false: an old GitHub Enterprise Server, which lacks the mutation. Returns
 * the node that is minimized from now on, if any.
 */
export const answerGraphql = async (
  body: unknown,
  { schema, mayMinimize }: { schema: boolean; mayMinimize: (nodeId: string) => Promise<boolean | null> },
): Promise<{ answer: GraphqlAnswer; minimized: string | null }> => {
  const refused = (answer: GraphqlAnswer) => ({ answer, minimized: null })
  const { query, variables } = (body ?? {}) as { query?: unknown; variables?: Record<string, unknown> }
  if (typeof query !== 'string')
    return refused({
      status: 200,
      body: { errors: [{ message: 'A query attribute must be specified and must be a string.' }] },
    })
  const [match, declared = '', used, classifier = ''] = query.match(MINIMIZE) ?? []
  if (match === undefined) return refused(queryError('undefinedField', "Field doesn't exist on type 'Mutation'"))
  if (!schema) return refused(queryError('undefinedField', "Field 'minimizeComment' doesn't exist on type 'Mutation'"))
  if (declared !== used) return refused(queryError('variableNotDefined', `Variable $${used} is not declared`))
  if (!CLASSIFIERS.includes(classifier))
    return refused(
      queryError(
        'argumentLiteralsIncompatible',
        `Argument 'classifier' on InputObject has an invalid value (${classifier})`,
      ),
    )
  const id = variables?.[declared]
  if (typeof id !== 'string')
    return refused(
      queryError('missingRequiredVariable', `Variable $${declared} of type ID! was provided invalid value`),
    )
  const may = await mayMinimize(id)
  if (may === null) return refused(fieldError('NOT_FOUND', `Could not resolve to a node with the global id of '${id}'`))
  if (!may) return refused(fieldError('FORBIDDEN', 'Resource not accessible by personal access token'))
  const body200 = { data: { minimizeComment: { minimizedComment: { isMinimized: true } } } }
  return { answer: { status: 200, body: body200 }, minimized: id }
}
