/** What Windows PowerShell 5.1 lacks, refused by PowerShell's own parser. */
import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { noPwsh, runPwsh } from '../../support/hyperv/stand-in.ts'

const folder = resolve(import.meta.dirname, '../../../providers/hyperv/scripts')
const check = resolve(import.meta.dirname, '../../support/hyperv/syntax.ps1')

const samples: Record<string, string> = {
  '&& or ||': 'Get-Date && Get-Date',
  '? :': '$a ? 1 : 2',
  '??': '$a ?? 1',
  '??=': '$a ??= 1',
  '?. or ?[': '$(Get-Date)?.Length',
  '&': 'Get-Date &',
  '-Parallel': '1..2 | ForEach-Object -Parallel { $_ }',
  '-AsArray': 'ConvertTo-Json -AsArray 1',
  '-AsHashtable': 'ConvertFrom-Json -AsHashtable "{}"',
  '-EscapeHandling': 'ConvertTo-Json 1 -EscapeHandling EscapeHtml',
  '-EnumsAsStrings': 'ConvertTo-Json 1 -EnumsAsStrings',
  '-AsUTC': 'Get-Date -AsUTC',
}

test.skipIf(noPwsh !== null)(
  `no script has what PowerShell 5.1 lacks${noPwsh === null ? '' : ` (left out: ${noPwsh})`}`,
  () => {
    const files = readdirSync(folder).map(name => ({ name, text: readFileSync(join(folder, name), 'utf8') }))
    const tries = Object.entries(samples).map(([name, text]) => ({ name, text }))
    const broken = { name: 'broken', text: 'if (' }
    const found = runPwsh(check, [...files, ...tries, broken]) as Record<string, string[]>
    expect(files.length).toBeGreaterThan(10)
    for (const { name } of files) expect([name, found[name]]).toEqual([name, []])
    for (const { name } of tries) expect([name, found[name]]).toEqual([name, [name]])
    expect(found.broken?.[0]).toMatch(/^does not parse/)
  },
)
