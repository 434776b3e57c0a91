/** Which requests reach git at all. */
import { expect, test } from 'vitest'
import { canonicalRepository, readRoute } from '../../../src/runner/git-gateway/route.ts'

test('the requests of a fetch and of a push, with and without .git, in any case', () => {
  for (const path of ['/acme/shop', '/acme/shop.git', '/Acme/SHOP'])
    expect(readRoute('GET', `${path}/info/refs?service=git-upload-pack`)).toEqual({
      ...{ repo: 'acme/shop', service: 'git-upload-pack', isDiscovery: true },
    })
  expect(readRoute('POST', '/acme/shop/git-receive-pack')).toEqual({
    ...{ repo: 'acme/shop', service: 'git-receive-pack', isDiscovery: false },
  })
})

test.for([
  ['GET', '/acme/shop/info/refs'],
  ['GET', '/acme/shop/info/refs?service=git-upload-archive'],
  ['POST', '/acme/shop/git-upload-archive'],
  ['GET', '/acme/shop/info/refs?service=git-upload-pack&x=1'],
  ['POST', '/acme/shop/info/refs?service=git-upload-pack'],
  ['GET', '/acme/shop/git-upload-pack'],
  ['GET', '/acme/shop.git/HEAD'],
  ['GET', '/acme/shop.git/config'],
  ['GET', '/acme/shop.git/objects/info/packs'],
  ['GET', '/../secret/info/refs?service=git-upload-pack'],
  ['GET', '/acme/../info/refs?service=git-upload-pack'],
  ['GET', '/acme/..git/info/refs?service=git-upload-pack'],
  ['GET', '/acme/./info/refs?service=git-upload-pack'],
  ['GET', '/acme/shop/../../secret/x/info/refs?service=git-upload-pack'],
  ['GET', '/acme/%2e%2e/info/refs?service=git-upload-pack'],
  ['GET', '/acme%2fshop/x/info/refs?service=git-upload-pack'],
  ['GET', '/.hooks/shop/info/refs?service=git-upload-pack'],
  ['GET', '//acme/shop/info/refs?service=git-upload-pack'],
  ['GET', 'http://example.org/acme/shop/info/refs?service=git-upload-pack'],
  ['PUT', '/acme/shop/git-receive-pack'],
  ['POST', '/-acme/shop/git-receive-pack'],
  ['POST', '/acme/shop.git.git/git-receive-pack'],
  ['POST', '/acme/shop\0/git-receive-pack'],
] as const)('%s %s is no request of git', ([method, url]) => expect(readRoute(method, url)).toBeNull())

test('names of folders on the disk', () => {
  expect(canonicalRepository('Acme/Shop')).toBe('acme/shop')
  for (const name of ['acme', 'acme/', 'acme/..', 'acme/.', 'acme/x.git', 'a/b/c', '../x', 'acme/x\n'])
    expect(canonicalRepository(name), name).toBeNull()
})
