# All machines with a name like ours, and with $a.host what the host has.
$machines = @(foreach ($vm in @(Get-AllMachines)) {
    $name = "$($vm.Name)"
    if (-not $name.StartsWith('as-')) { continue }
    try {
      $notes = "$($vm.Notes)"
      $row = @{
        name      = $name
        id        = "$($vm.Id)"
        state     = "$($vm.State)"
        notes     = $notes.Substring(0, [Math]::Min($notes.Length, 4000))
        path      = "$($vm.Path)"
        cpus      = [int]$vm.ProcessorCount
        memory    = [long]$vm.MemoryStartup
        assigned  = [long]$vm.MemoryAssigned
        addresses = [string[]]@($vm.NetworkAdapters | ForEach-Object { $_.IPAddresses } | Where-Object { $_ } | Select-Object -First 20)
      }
      if ($a.host -and $row.state -ne 'Off' -and $row.state -ne 'Saved') {
        $row.adapters = @(foreach ($adapter in @(Hyper-V\Get-VMNetworkAdapter -VM $vm)) {
            @{ rules = [string[]]@(Hyper-V\Get-VMNetworkAdapterExtendedAcl -VMNetworkAdapter $adapter | ForEach-Object { Get-RuleText $_ }) }
          })
      }
      $row
    } catch {
      if (-not (Test-Gone $vm)) { throw }
    }
  })
if (-not $a.host) {
  Write-Answer @{ machines = $machines }
  exit 0
}

$vmHost = Hyper-V\Get-VMHost
$system = CimCmdlets\Get-CimInstance -ClassName Win32_OperatingSystem
# Not every Windows has NAT. What a function returns would be no list when it has one element.
$nats = $null
try { $nats = [string[]]@(NetNat\Get-NetNat | ForEach-Object { "$($_.InternalIPInterfaceAddressPrefix)" }) } catch { }
Write-Answer @{
  machines  = $machines
  version   = "$($PSVersionTable.PSVersion)"
  system    = "$($system.Caption) $($system.Version)"
  cpus      = [int]$vmHost.LogicalProcessorCount
  memory    = [long]$vmHost.MemoryCapacity
  free      = [long]$system.FreePhysicalMemory * 1024
  switches  = @(Hyper-V\Get-VMSwitch | ForEach-Object { @{ name = "$($_.Name)"; type = "$($_.SwitchType)" } })
  nats      = $nats
  addresses = @(NetTCPIP\Get-NetIPAddress -AddressFamily IPv4 | ForEach-Object {
      @{ address = "$($_.IPAddress)"; bits = [int]$_.PrefixLength; interface = "$($_.InterfaceAlias)" }
    })
}
