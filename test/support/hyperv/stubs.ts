/**
 * Functions of PowerShell with the names, parameter sets and types of Microsoft's cmdlets (cmdlets.json), so that a wrong call is
 * PowerShell's own error. Each passes what it got to the state machine in hypervisor.ps1.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

type Parameters = Record<string, string>
type Cmdlet = {
  sets: Record<string, { must: Parameters; may: Parameters }>
  values?: Record<string, string[]>
}
const { cmdlets } = JSON.parse(readFileSync(join(import.meta.dirname, 'cmdlets.json'), 'utf8')) as {
  cmdlets: Record<string, Cmdlet>
}

const MODULES: Record<string, RegExp> = { NetNat: /-NetNat$/, NetTCPIP: /-Net(?:IPAddress|Neighbor)$/, 'Hyper-V': /./ }
const moduleOf = (name: string): string =>
  Object.entries(MODULES).find(([, pattern]) => pattern.test(name))?.[0] ?? 'Hyper-V'

/** Types that PowerShell has itself, and those that hypervisor.ps1 makes a class of. */
const KNOWN: Record<string, string> = {
  ...{
    String: 'string',
    Int16: 'int16',
    Int32: 'int',
    Int64: 'long',
    UInt32: 'uint32',
    UInt64: 'uint64',
    Byte: 'byte',
  },
  ...{
    Boolean: 'bool',
    Guid: 'guid',
    Version: 'version',
    TimeSpan: 'timespan',
    switch: 'switch',
    PSObject: 'psobject',
  },
}
const CLASSES = [
  ...['VirtualMachineBase', 'VirtualMachine', 'VMSnapshot', 'VMNetworkAdapterBase', 'HardDiskDrive', 'DvdDrive'],
  ...['VMNetworkAdapterExtendedAclSetting'],
]

const typeOf = (type: string, values: readonly string[] | undefined): string => {
  const [plain = '', list] = type.endsWith('[]') ? [type.slice(0, -2), '[]'] : [type, '']
  const known = values === undefined ? (KNOWN[plain] ?? (CLASSES.includes(plain) ? plain : 'object')) : 'string'
  return `${known}${list}`
}

const RESERVED = ['WhatIf', 'Confirm']
/** The documentation's own, where it names one that takes no name. */
const DEFAULTS: Record<string, string> = {
  'New-VM': 'No VHD',
  'New-VHD': 'DynamicWithoutSource',
  'Get-VMHost': 'ComputerName',
}

const stubOf = (name: string, { sets, values = {} }: Cmdlet): string => {
  const names = Object.keys(sets)
  const first = ['Name', 'VMName', 'Default', names[0]].find(each => each !== undefined && names.includes(each))
  const parameters = new Map<string, { type: string; attributes: string[] }>()
  for (const [set, { must, may }] of Object.entries(sets))
    for (const [isMust, list] of [
      [true, must],
      [false, may],
    ] as const)
      for (const [parameter, type] of Object.entries(list)) {
        if (RESERVED.includes(parameter)) continue
        const found = parameters.get(parameter) ?? { type: typeOf(type, values[parameter]), attributes: [] }
        found.attributes.push(`[Parameter(ParameterSetName='${set}'${isMust ? ', Mandatory' : ''})]`)
        parameters.set(parameter, found)
      }
  const lines = [...parameters].map(([parameter, { type, attributes }]) => {
    const allowed = values[parameter]
    const check = allowed === undefined ? '' : ` [ValidateSet(${allowed.map(each => `'${each}'`).join(', ')})]`
    return `    ${attributes.join(' ')}${check} [${type}] $${parameter}`
  })
  return [
    `function ${name} {`,
    `  [CmdletBinding(SupportsShouldProcess, DefaultParameterSetName='${DEFAULTS[name] ?? first}')]`,
    `  param(\n${lines.join(',\n')}\n  )`,
    `  Invoke-StandIn '${name}' $PSBoundParameters`,
    '}',
  ].join('\n')
}

const CIM = `function Get-CimInstance {
  [CmdletBinding()]
  param([Parameter(Mandatory)] [ValidateSet('Win32_OperatingSystem')] [string] $ClassName)
  Invoke-StandIn 'Get-CimInstance' $PSBoundParameters
}`

/** Writes the modules into `folder`, which goes on PSModulePath. */
export const writeModules = (folder: string): void => {
  const machine = readFileSync(join(import.meta.dirname, 'hypervisor.ps1'), 'utf8')
  const write = (module: string, names: readonly string[], functions: readonly string[]) => {
    mkdirSync(join(folder, module), { recursive: true })
    // Every other module uses the machine of the first.
    const head = module === 'Hyper-V' ? machine : 'Import-Module Hyper-V -Function Invoke-StandIn'
    writeFileSync(join(folder, module, `${module}.psm1`), [head, ...functions].join('\n'))
    const list = [...names, ...(module === 'Hyper-V' ? ['Invoke-StandIn'] : [])].map(name => `'${name}'`).join(', ')
    writeFileSync(
      join(folder, module, `${module}.psd1`),
      `@{ RootModule = '${module}.psm1'; ModuleVersion = '2.0.0.0'; FunctionsToExport = @(${list}); CmdletsToExport = @(); AliasesToExport = @() }\n`,
    )
  }
  for (const module of Object.keys(MODULES)) {
    const rows = Object.entries(cmdlets).filter(([name]) => moduleOf(name) === module)
    write(
      module,
      rows.map(([name]) => name),
      rows.map(([name, cmdlet]) => stubOf(name, cmdlet)),
    )
  }
  write('CimCmdlets', ['Get-CimInstance'], [CIM])
}
