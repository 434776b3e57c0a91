/** What a browser does on the page of `agent-swarm init`: posts the form to GitHub, which redirects back. */
export const consent = async (page: string): Promise<{ action: string; back: string }> => {
  const html = await (await fetch(page)).text()
  const unescaped = (text = '') =>
    text.replaceAll('&quot;', '"').replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&amp;', '&')
  const action = unescaped(html.match(/action="([^"]*)"/)?.[1])
  const manifest = unescaped(html.match(/name="manifest" value="([^"]*)"/)?.[1])
  const answer = await fetch(action, { method: 'POST', body: new URLSearchParams({ manifest }), redirect: 'manual' })
  return { action, back: answer.headers.get('location') ?? '' }
}
