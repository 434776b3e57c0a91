/**
 * `node summary.mjs FOLDER STEPS`: prints what failed in vitest's JSON reports in FOLDER, and then "N passed, N failed".
 * STEPS: how many steps failed; one that failed without a failed test counts as one.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

const [folder, steps] = process.argv.slice(2)
const reports = readdirSync(folder)
  .filter(name => name.endsWith('.json'))
  .map(name => JSON.parse(readFileSync(join(folder, name), 'utf8')))
for (const { name, status, message, assertionResults } of reports.flatMap(report => report.testResults)) {
  const failed = assertionResults.filter(test => test.status === 'failed')
  for (const test of failed) {
    console.log(`\nFAILED ${name}: ${test.fullName}`)
    console.log(test.failureMessages.map(text => text.split('\n').slice(0, 15).join('\n').slice(0, 3000)).join('\n'))
  }
  if (status === 'failed' && failed.length === 0) console.log(`\nFAILED ${name}: ${message || 'a hook'}`)
}
const sum = field => reports.reduce((total, report) => total + report[field], 0)
const passed = sum('numPassedTests')
const failed = Math.max(sum('numFailedTests'), Number(steps))
console.log(`\n${passed} passed, ${failed} failed`)
process.exitCode = failed === 0 && passed > 0 ? 0 : 1
