/** Opens GitHub, by an App or by a personal token. */
import type { Config } from '../../config/config.ts'
import type { GitHub, GitHubTools } from './client.ts'

/** Loading the client takes up to a second, so call this when the bot listens already. */
export const openGitHub = async (settings: NonNullable<Config['github']>, tools: GitHubTools): Promise<GitHub> =>
  settings.via === 'app'
    ? (await import('./app.ts')).openApp(settings, tools)
    : (await import('./token.ts')).openToken(settings, tools)
