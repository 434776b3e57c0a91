import type { ProviderDescription } from '../provider.ts'
import { type AwsSettings, awsSettings } from './settings.ts'

export const aws: ProviderDescription<AwsSettings> = {
  name: 'aws',
  label: 'AWS EC2',
  platform: null,
  // It costs money: whoever wants it says so.
  detected: false,
  needs: 'the program aws, and an account',
  live: true,
  settings: awsSettings,
  // Where the program finds its configuration and its credentials, and how it reaches AWS.
  environment: [
    ...['AWS_PROFILE', 'AWS_DEFAULT_PROFILE', 'AWS_REGION', 'AWS_DEFAULT_REGION', 'AWS_CONFIG_FILE'],
    ...['AWS_SHARED_CREDENTIALS_FILE', 'AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_SESSION_TOKEN'],
    ...[
      'AWS_ROLE_ARN',
      'AWS_ROLE_SESSION_NAME',
      'AWS_WEB_IDENTITY_TOKEN_FILE',
      'AWS_CONTAINER_CREDENTIALS_RELATIVE_URI',
    ],
    ...['AWS_CONTAINER_CREDENTIALS_FULL_URI', 'AWS_CONTAINER_AUTHORIZATION_TOKEN', 'AWS_CA_BUNDLE'],
    ...['AWS_EC2_METADATA_DISABLED', 'HTTPS_PROXY', 'https_proxy', 'NO_PROXY', 'no_proxy'],
  ],
  open: async tools => (await import('./index.ts')).openAws(tools),
}
