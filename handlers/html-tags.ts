/** Which HTML tags are open after a piece of HTML: what stands between a tag and its end belongs to the tag. */

/** Comments go first. Each match goes on to its end or the end of the text, so that the time is linear. */
const TAG = /<!--[\s\S]*?(?:-->|$)|<(\/?)([a-z][a-z0-9-]*)(?=[\s/>])[^>]*>?/gi
/** https://html.spec.whatwg.org/multipage/syntax.html#void-elements */
const VOID = new Set('area base br col embed hr img input link meta param source track wbr'.split(' '))

/** `before`: the tags that were open before it, outermost first. An end without its beginning ends nothing. */
export const openTags = (html: string, before: readonly string[]): string[] => {
  const open = [...before]
  for (const [, slash, written = ''] of html.matchAll(TAG)) {
    const name = written.toLowerCase()
    if (name === '' || VOID.has(name)) continue
    if (slash === '') open.push(name)
    else if (open.includes(name)) open.length = open.lastIndexOf(name)
  }
  return open
}

const COMMENT = '!--'
/** A browser hides everything after a comment without an end. Nothing ends it here: that is rare enough. */
export const openComment = (html: string, before: readonly string[]): readonly string[] =>
  html.lastIndexOf('<!--') > html.lastIndexOf('-->') ? [...before, COMMENT] : before
