import type { ProviderDescription } from '../provider.ts'

export const aws: ProviderDescription = {
  name: 'aws',
  label: 'AWS EC2',
  platform: null,
  detected: false,
  needs: 'the program aws, and an account',
  live: false,
  settings: {},
  environment: [],
  open: null,
}
