import { expect, test } from 'vitest'
import { webUrlOf } from '../../../src/bot/github/client.ts'

test.for([
  ['github.com', null, 'https://github.com'],
  ['github.com, by its API', 'https://api.github.com', 'https://github.com'],
  ['Enterprise Cloud with data residency', 'https://api.acme.ghe.com', 'https://acme.ghe.com'],
  ['Enterprise Server', 'https://github.example.org/api/v3', 'https://github.example.org'],
  ['Enterprise Server whose name begins with api', 'https://api.example.org/api/v3', 'https://api.example.org'],
  ['a simulator', 'http://127.0.0.1:4000', 'http://127.0.0.1:4000'],
] as const)('the web address of %s', ([, api, web]) => expect(webUrlOf(api)).toBe(web))
