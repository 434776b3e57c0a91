# A small Hyper-V: state as JSON on disk, disks as files with a folder of contents each. The cmdlets in front of it are made of
# Microsoft's parameter sets. Messages are in German, since nobody may read them.

enum VMState { Other = 1; Running = 2; Off = 3; Stopping = 4; Saved = 6; Paused = 9; Starting = 10; Reset = 11; Saving = 32773; Pausing = 32776; Resuming = 32777; FastSaved = 32779; RunningCritical = 32781; OffCritical = 32782; SavedCritical = 32785; PausedCritical = 32786 }
class VirtualMachineBase { [guid] $Id; [string] $Name; [VMState] $State; [string] $Notes; [string] $Path }
class VirtualMachine : VirtualMachineBase {
  [long] $ProcessorCount; [long] $MemoryStartup; [long] $MemoryAssigned; [timespan] $Uptime; [int] $CPUUsage; [object[]] $NetworkAdapters
}
class VMSnapshot : VirtualMachineBase { [datetime] $CreationTime; [guid] $VMId; [string] $VMName }
class VMNetworkAdapterBase { [string] $Name; [string] $VMName; [guid] $VMId; [string] $MacAddress; [string] $SwitchName; [string[]] $IPAddresses; [int] $Number }
class HardDiskDrive { [string] $Path; [string] $VMName }
class DvdDrive { [string] $Path; [string] $VMName }
class VMNetworkAdapterExtendedAclSetting { [string] $Direction; [int] $Weight; [string] $Action; [string] $RemoteIPAddress; [string] $LocalIPAddress; [string] $Protocol; [string] $LocalPort; [string] $RemotePort; [bool] $Stateful; [guid] $VMId; [int] $Adapter }

$root = $env:HYPERV_STAND_IN
$now = { [DateTimeOffset]::UtcNow.ToUnixTimeMilliseconds() }

function Fail($id, $category, $message, $code = 0x80004005) {
  $exception = [System.InvalidOperationException]::new($message)
  $exception.HResult = $code
  throw [System.Management.Automation.ErrorRecord]::new($exception, $id, $category, $null)
}
function Fail-State($cmdlet, $vm) {
  Fail "InvalidState,Microsoft.HyperV.PowerShell.Commands.$cmdlet" InvalidOperation "Der Vorgang kann nicht ausgeführt werden, solange sich `"$($vm.name)`" im aktuellen Zustand befindet."
}

function Open-State {
  while ($true) {
    try { $script:lock = [IO.File]::Open("$root/state.lock", 'OpenOrCreate', 'ReadWrite', 'None'); break } catch [IO.IOException] { Start-Sleep -Milliseconds 10 }
  }
  $script:state = ConvertFrom-Json -AsHashtable -InputObject ([IO.File]::ReadAllText("$root/state.json"))
  # States take time.
  foreach ($vm in $state.vms) { if ($vm.next -and (& $now) -ge $vm.at) { $vm.state = $vm.next; $vm.next = $null } }
}
function Close-State($write) {
  if ($write) {
    [IO.File]::WriteAllText("$root/state.json.new", (ConvertTo-Json -InputObject $state -Depth 12))
    [IO.File]::Move("$root/state.json.new", "$root/state.json", $true)
  }
  $script:lock.Dispose()
}

function Move-State($vm, $through, $to, $milliseconds = $state.slowness) {
  $vm.state = $through; $vm.next = $to; $vm.at = (& $now) + $milliseconds
}

# ── Objects ──

function Get-Adapter($vm, $number = 0) {
  $adapter = $vm.adapters[$number]
  $addresses = @()
  if ($vm.state -eq 'Running' -and $adapter.kvp) {
    # The daemon in the guest takes a while.
    if ($adapter.looks -gt 0) { $adapter.looks -= 1; $script:changed = $true } else { $addresses = @('169.254.7.7', 'fe80::1', $adapter.kvp) }
  }
  [VMNetworkAdapterBase]@{ Name = 'Netzwerkkarte'; VMName = $vm.name; VMId = $vm.id; MacAddress = $adapter.mac; SwitchName = $adapter.switch; IPAddresses = [string[]]$addresses; Number = $number }
}
function Get-Adapters($vm) { for ($n = 0; $n -lt $vm.adapters.Count; $n++) { Get-Adapter $vm $n } }
function Get-Object($vm) {
  $result = [VirtualMachine]@{ Id = $vm.id; Name = $vm.name; State = $vm.state; Notes = $vm.notes; Path = $vm.path }
  $result.ProcessorCount = $vm.cpus
  $result.MemoryStartup = $vm.memory
  $result.MemoryAssigned = $(if ($vm.state -eq 'Running') { $vm.memory } else { 0 })
  $result.NetworkAdapters = @(Get-Adapters $vm)
  $result
}
function Get-SnapshotObject($snapshot) {
  [VMSnapshot]@{ Id = $snapshot.id; Name = $snapshot.name; State = $snapshot.state; Notes = $snapshot.config.notes; CreationTime = [DateTimeOffset]::FromUnixTimeMilliseconds($snapshot.at).UtcDateTime; VMId = $snapshot.vm; VMName = $snapshot.config.name }
}
function Find-Vm($p) {
  $id = $(if ($p.ContainsKey('VM')) { @($p.VM)[0].Id } elseif ($p.ContainsKey('VMNetworkAdapter')) { @($p.VMNetworkAdapter)[0].VMId } elseif ($p.ContainsKey('InputObject')) { @($p.InputObject)[0].VMId } else { $p.Id })
  $vm = $state.vms | Where-Object { [guid]$_.id -eq $id }
  if (-not $vm) { Fail 'ObjectNotFound,Microsoft.HyperV.PowerShell' ObjectNotFound "Hyper-V konnte keinen virtuellen Computer mit der ID `"$id`" finden." }
  $vm
}
function Find-Adapter($p) {
  $number = $(if ($p.ContainsKey('VMNetworkAdapter')) { @($p.VMNetworkAdapter)[0].Number } elseif ($p.ContainsKey('InputObject')) { @($p.InputObject)[0].Adapter } else { 0 })
  (Find-Vm $p).adapters[$number]
}
function Find-Snapshot($p) {
  $id = $(if ($p.ContainsKey('VMSnapshot')) { @($p.VMSnapshot)[0].Id } else { $p.Id })
  $snapshot = $state.snapshots | Where-Object { [guid]$_.id -eq $id }
  if (-not $snapshot) { Fail 'ObjectNotFound,Microsoft.HyperV.PowerShell' ObjectNotFound 'Der Prüfpunkt wurde nicht gefunden.' }
  $snapshot
}
# What a rule leaves open (Msvm_EthernetSwitchPortExtendedAclSettingData).
function Get-Any($value) { if ($value) { "$value" } else { 'ANY' } }
function Copy-Config($vm) { ConvertFrom-Json -AsHashtable -InputObject (ConvertTo-Json -InputObject $vm -Depth 12) }

# ── Disks ──

function Get-Disk($path) {
  if (-not [IO.File]::Exists($path)) { Fail 'ObjectNotFound,Microsoft.HyperV.PowerShell' ObjectNotFound "`"$path`" wurde nicht gefunden." 0x80070002 }
  if (-not $state.vhds.ContainsKey($path)) {
    $id = [guid]::NewGuid().ToString()
    $null = [IO.Directory]::CreateDirectory("$root/content/$id")
    $state.vhds[$path] = @{ content = $id; parent = $null; size = 2147483648 }
    $script:changed = $true
  }
  $state.vhds[$path]
}
function New-Disk($path, $parent, $size, $mayWrite = $true) {
  if ([IO.File]::Exists($path)) { Fail 'FileExists,Microsoft.Vhd' ResourceExists "Die Datei `"$path`" ist bereits vorhanden." 0x80070050 }
  $below = Get-Disk $parent
  $id = [guid]::NewGuid().ToString()
  & cp -a "$root/content/$($below.content)" "$root/content/$id"
  [IO.File]::WriteAllText($path, 'vhdxfile' + ('x' * 4088))
  $state.vhds[$path] = @{ content = $id; parent = $parent; size = $size }
}
# A file of its own with what is seen through the disk.
function Copy-Disk($from, $to, $parent) {
  $null = [IO.Directory]::CreateDirectory([IO.Path]::GetDirectoryName($to))
  New-Disk $to $from (Get-Disk $from).size
  $state.vhds[$to].parent = $parent
}
# The disks that machines which do not stand still as Off or Saved have open, with those below them.
function Get-OpenDisks {
  foreach ($vm in $state.vms) {
    if ($vm.state -in 'Off', 'Saved') { continue }
    for ($path = $vm.disk; $path; $path = $state.vhds[$path].parent) { $path }
  }
}
# What Hyper-V does after the cmdlet returned: it has the file open, and removes it at the end.
function Start-Merge($vmId, $path) {
  $state.merges += @(@{ vm = $vmId; path = $path })
  $note = "$root/merging/$([guid]::NewGuid())"
  [IO.File]::WriteAllText($note, $path)
  $line = 'sleep 0.2; [ ! -e "$1" ] || flock -x "$1" sleep "$2"; [ -e "$1" ] || echo "merging $1: it was removed meanwhile" >>"$3"; rm -f "$1" "$4"'
  & /bin/sh -c 'env -i PATH="$PATH" setsid sh -c "$@" </dev/null >/dev/null 2>&1 &' sh $line sh $path ($state.mergeMs / 1000) "$root/violations" $note
}
function Test-Merging($vm) { @($state.merges | Where-Object { $_.vm -eq $vm.id -and [IO.File]::Exists($_.path) }).Count -gt 0 }

function Set-Below($old, $new) {
  foreach ($vm in $state.vms) { if ($vm.disk -eq $old) { $vm.disk = $new } }
  foreach ($snapshot in $state.snapshots) { if ($snapshot.config.disk -eq $old) { $snapshot.config.disk = $new } }
  foreach ($vhd in $state.vhds.Values) { if ($vhd.parent -eq $old) { $vhd.parent = $new } }
}
# The disk of a removed checkpoint takes in the only disk above it.
function Merge-Disk($vmId, $path) {
  $users = @($state.vms | Where-Object { $_.disk -eq $path }) + @($state.snapshots | Where-Object { $_.config.disk -eq $path })
  if ($users.Count -gt 0) { return }
  $above = @($state.vhds.Keys | Where-Object { $state.vhds[$_].parent -eq $path -and [IO.File]::Exists($_) })
  if ($above.Count -eq 0) {
    if ($path -like '*.avhdx') { Start-Merge $vmId $path; $state.vhds.Remove($path) }
  } elseif ($above.Count -eq 1) {
    $state.vhds[$path].content = $state.vhds[$above[0]].content
    Set-Below $above[0] $path
    Start-Merge $vmId $above[0]
    $state.vhds.Remove($above[0])
  }
}

# ── Cmdlets ──

$cmdlets = @{
  'Get-VM' = {
    # Some versions give nobody's machines to a user who may not use Hyper-V, and no error.
    if ($state.silent) { return }
    if ($p.ContainsKey('Id')) { return Get-Object (Find-Vm $p) }
    $found = @($state.vms | Where-Object { -not $p.ContainsKey('Name') -or $_.name -like @($p.Name)[0] })
    if ($found.Count -eq 0 -and $p.ContainsKey('Name')) { Fail 'InvalidParameter,Microsoft.HyperV.PowerShell.Commands.GetVM' InvalidArgument 'Hyper-V konnte keinen virtuellen Computer finden.' }
    foreach ($vm in $found) { Get-Object $vm }
  }
  'New-VM' = {
    if (-not @($state.switches | Where-Object { $_.name -eq $p.SwitchName })) { Fail 'ObjectNotFound,Microsoft.HyperV.PowerShell.Commands.NewVM' ObjectNotFound 'Der Switch wurde nicht gefunden.' }
    if ($p.Generation -ne 2) { Fail 'InvalidParameter,Microsoft.HyperV.PowerShell.Commands.NewVM' InvalidArgument 'Generation.' }
    $null = Get-Disk $p.VHDPath
    if (Test-Path -LiteralPath "$($p.VHDPath).sparse") { Fail 'InvalidParameter,Microsoft.HyperV.PowerShell.Commands.NewVM' InvalidArgument 'Virtuelle Festplatten müssen unkomprimiert und unverschlüsselt sein und dürfen nicht mit geringer Datendichte gespeichert sein.' 0xC03A001A }
    $path = "$($p.Path)/$($p.Name)"
    $null = [IO.Directory]::CreateDirectory("$path/Virtual Machines")
    $id = [guid]::NewGuid().ToString()
    [IO.File]::WriteAllText("$path/Virtual Machines/$id.vmcx", 'x' * 100)
    # As Hyper-V makes them: production checkpoints, and automatic ones.
    $vm = @{ id = $id; name = $p.Name; state = 'Off'; next = $null; at = 0; notes = ''; path = $path; cpus = 1; memory = $p.MemoryStartupBytes; dynamic = $true; disk = $p.VHDPath; dvd = $null; template = 'MicrosoftWindows'; checkpoints = 'Production'; automatic = $true; stopAction = 'Save'; startAction = 'StartIfRunning'; attached = @(); hangs = $false; saved = $null; boot = $null }
    $vm.adapters = @(@{ mac = '00155D' + ('{0:X6}' -f (Get-Random -Maximum 16777216)); switch = $p.SwitchName; acls = @(); spoofing = 'Off'; dhcp = 'Off'; router = 'Off'; kvp = $state.kvp; looks = $state.kvpLooks })
    $state.vms += @($vm)
    Get-Object $vm
  }
  'Set-VM' = {
    $vm = Find-Vm $p
    if ($p.ContainsKey('Notes')) { $vm.notes = $p.Notes }
    if ($p.ContainsKey('ProcessorCount')) { $vm.cpus = $p.ProcessorCount }
    if ($p.StaticMemory) { $vm.dynamic = $false }
    if ($p.ContainsKey('CheckpointType')) { $vm.checkpoints = $p.CheckpointType }
    if ($p.ContainsKey('AutomaticCheckpointsEnabled')) { $vm.automatic = $p.AutomaticCheckpointsEnabled }
    if ($p.ContainsKey('AutomaticStopAction')) { $vm.stopAction = $p.AutomaticStopAction }
    if ($p.ContainsKey('AutomaticStartAction')) { $vm.startAction = $p.AutomaticStartAction }
  }
  'Set-VMFirmware' = {
    $vm = Find-Vm $p
    $vm.template = $p.SecureBootTemplate
  }
  'Add-VMDvdDrive' = {
    $vm = Find-Vm $p
    if (-not [IO.File]::Exists($p.Path)) { Fail 'ObjectNotFound,Microsoft.HyperV.PowerShell.Commands.AddVMDvdDrive' ObjectNotFound 'Die Datei wurde nicht gefunden.' }
    $vm.dvd = $p.Path
    # Hyper-V gives the machine's account access to the file. Whoever sets the permissions afterwards takes it away.
    [IO.File]::AppendAllText("$root/permissions", "attach $($p.Path)`n")
  }
  'Get-VMNetworkAdapter' = {
    if ($p.ContainsKey('VM')) { return Get-Adapters (Find-Vm $p) }
    foreach ($vm in $state.vms) { Get-Adapters $vm }
  }
  'Set-VMNetworkAdapter' = {
    $adapter = Find-Adapter $p
    if ($p.ContainsKey('StaticMacAddress')) {
      if ($p.StaticMacAddress -notmatch '^[0-9A-Fa-f]{12}$') { Fail 'InvalidParameter,Microsoft.HyperV.PowerShell.Commands.SetVMNetworkAdapter' InvalidArgument 'MAC.' }
      $adapter.mac = $p.StaticMacAddress.ToUpper()
    }
    if ($p.ContainsKey('MacAddressSpoofing')) { $adapter.spoofing = $p.MacAddressSpoofing }
    if ($p.ContainsKey('DhcpGuard')) { $adapter.dhcp = $p.DhcpGuard }
    if ($p.ContainsKey('RouterGuard')) { $adapter.router = $p.RouterGuard }
  }
  'Get-VMNetworkAdapterExtendedAcl' = {
    $vm = Find-Vm $p
    $number = $(if ($p.ContainsKey('VMNetworkAdapter')) { @($p.VMNetworkAdapter)[0].Number } else { 0 })
    foreach ($acl in $vm.adapters[$number].acls) { [VMNetworkAdapterExtendedAclSetting]@{ Direction = $acl.Direction; Weight = $acl.Weight; Action = $acl.Action; RemoteIPAddress = Get-Any $acl.RemoteIPAddress; LocalIPAddress = Get-Any $acl.LocalIPAddress; Protocol = Get-Any $acl.Protocol; LocalPort = Get-Any $acl.LocalPort; RemotePort = Get-Any $acl.RemotePort; Stateful = [bool]$acl.Stateful; VMId = $vm.id; Adapter = $number } }
  }
  'Add-VMNetworkAdapterExtendedAcl' = {
    $adapter = Find-Adapter $p
    if (@($adapter.acls | Where-Object { $_.Weight -eq $p.Weight -and $_.Direction -eq $p.Direction }).Count -gt 0) { Fail 'InvalidParameter,Microsoft.HyperV.PowerShell.Commands.AddVMNetworkAdapterExtendedAcl' InvalidArgument 'Die Gewichtung ist bereits vergeben.' }
    $acl = @{}
    foreach ($key in 'Direction', 'Weight', 'Action', 'RemoteIPAddress', 'LocalIPAddress', 'Protocol', 'LocalPort', 'RemotePort', 'Stateful') { if ($p.ContainsKey($key)) { $acl[$key] = $p[$key] } }
    $adapter.acls += @($acl)
  }
  'Remove-VMNetworkAdapterExtendedAcl' = {
    $adapter = Find-Adapter $p
    $rule = $(if ($p.ContainsKey('InputObject')) { @($p.InputObject)[0] } else { $p })
    $adapter.acls = @($adapter.acls | Where-Object { $_.Weight -ne $rule.Weight -or $_.Direction -ne $rule.Direction })
  }
  'Start-VM' = {
    $vm = Find-Vm $p
    if ($vm.state -notin 'Off', 'Saved', 'FastSaved') { Fail-State StartVM $vm }
    $item = Get-Item -LiteralPath $vm.disk
    if ($item.IsReadOnly -or ($vm.dvd -and -not [IO.File]::Exists($vm.dvd))) { Fail 'AccessDenied,Microsoft.HyperV.PowerShell.Commands.StartVM' PermissionDenied 'Der Anhang kann nicht geöffnet werden: Zugriff verweigert.' 0x80070005 }
    if ($vm.memory -gt $state.free) { Fail 'OutOfMemory,Microsoft.HyperV.PowerShell.Commands.StartVM' FromStdErr 'Nicht genügend Arbeitsspeicher.' 0x8007000E }
    if ($vm.template -ne 'MicrosoftUEFICertificateAuthority') { $vm.state = 'Running'; $vm.hangs = $true; return }
    $vm.adapters[0].looks = $state.kvpLooks
    # Windows 10 takes one at every start unless it is told not to.
    if ($vm.automatic) { & $cmdlets['Checkpoint-VM'] @{ VM = @([pscustomobject]@{ Id = [guid]$vm.id }); SnapshotName = 'Automatic Checkpoint' } }
    if ($vm.state -eq 'Off') { $vm.boot = [guid]::NewGuid().ToString() }
    Move-State $vm 'Starting' $(if ($state.fullDisk) { 'PausedCritical' } else { 'Running' })
  }
  'Resume-VM' = {
    $vm = Find-Vm $p
    if ($vm.state -notlike 'Paused*') { Fail-State ResumeVM $vm }
    Move-State $vm 'Resuming' $(if ($state.fullDisk) { 'PausedCritical' } else { 'Running' })
  }
  'Stop-VM' = {
    $vm = Find-Vm $p
    if ($p.TurnOff) {
      if ($vm.state -in 'Off', 'Stopping' -and -not $vm.hangs) { Fail-State StopVM $vm }
      $vm.next = $null; $vm.state = 'Off'; return
    }
    if ($vm.state -ne 'Running') { Fail-State StopVM $vm }
    if (-not $p.AsJob) { Fail 'InvalidOperation' OperationTimeout 'Es wird fünf Minuten gewartet.' }
    # A guest that does not listen goes on.
    if (-not $vm.hangs) { Move-State $vm 'Stopping' 'Off' }
  }
  'Save-VM' = {
    $vm = Find-Vm $p
    if ($vm.state -ne 'Running') { Fail-State SaveVM $vm }
    if ($state.fullDisk) { Fail 'Unspecified,Microsoft.HyperV.PowerShell.Commands.SaveVM' NotSpecified 'Auf dem Datenträger ist nicht genügend Speicherplatz.' 0x80070070 }
    Move-State $vm 'Saving' 'Saved'
  }
  'Remove-VMSavedState' = {
    $vm = Find-Vm $p
    if ($vm.state -notin 'Saved', 'FastSaved', 'SavedCritical') { Fail-State RemoveVMSavedState $vm }
    $vm.state = 'Off'
  }
  'Checkpoint-VM' = {
    $vm = Find-Vm $p
    if ($vm.state -notin 'Running', 'Off', 'Saved', 'Paused' -or (Test-Merging $vm)) { Fail-State CheckpointVM $vm }
    $id = [guid]::NewGuid().ToString()
    $at = & $now
    $config = Copy-Config $vm
    $snapshot = @{ id = $id; vm = $vm.id; name = $p.SnapshotName; at = $at; state = $(if ($vm.state -ne 'Off' -and $vm.checkpoints -eq 'Standard') { 'Saved' } else { 'Off' }); config = $config }
    $state.snapshots += @($snapshot)
    $null = [IO.Directory]::CreateDirectory("$($vm.path)/Snapshots")
    [IO.File]::WriteAllText("$($vm.path)/Snapshots/$id.VMRS", 'm' * 20000)
    $stem = ([IO.Path]::GetFileNameWithoutExtension($vm.disk) -split '_')[0]
    $next = [IO.Path]::GetDirectoryName($vm.disk) + "/${stem}_$([guid]::NewGuid().ToString().ToUpper()).avhdx"
    New-Disk $next $vm.disk (Get-Disk $vm.disk).size
    $vm.disk = $next
    if ($p.Passthru) { Get-SnapshotObject $snapshot }
  }
  'Get-VMSnapshot' = {
    if ($p.ContainsKey('Id')) { return Get-SnapshotObject (Find-Snapshot $p) }
    $vm = Find-Vm $p
    # In no order that anybody promised.
    $found = @($state.snapshots | Where-Object { $_.vm -eq $vm.id })
    [array]::Reverse($found)
    foreach ($snapshot in $found) { Get-SnapshotObject $snapshot }
  }
  'Restore-VMSnapshot' = {
    $snapshot = Find-Snapshot $p
    $vm = $state.vms | Where-Object { $_.id -eq $snapshot.vm }
    if (Test-Merging $vm) { Fail-State RestoreVMSnapshot $vm }
    $old = $vm.disk
    # The whole configuration of the capture comes back, with its notes and its rules.
    $config = Copy-Config $snapshot.config
    $vm.disk = $null
    $stem = ([IO.Path]::GetFileNameWithoutExtension($config.disk) -split '_')[0]
    $next = [IO.Path]::GetDirectoryName($config.disk) + "/${stem}_$([guid]::NewGuid().ToString().ToUpper()).avhdx"
    New-Disk $next $config.disk (Get-Disk $config.disk).size
    foreach ($key in 'name', 'notes', 'cpus', 'memory', 'dvd', 'template', 'checkpoints', 'automatic', 'stopAction', 'startAction', 'adapters', 'boot') { $vm[$key] = $config[$key] }
    $vm.disk = $next
    Merge-Disk $vm.id $old
    $to = $(if ($snapshot.state -eq 'Off') { 'Off' } else { $state.restoreLeaves })
    Move-State $vm $(if ($to -eq 'Running') { 'Resuming' } else { 'Saving' }) $to
  }
  # A folder of its own, with the machine as it was: its memory, and one disk of which the differences are merged.
  'Export-VMSnapshot' = {
    $snapshot = Find-Snapshot @{ VMSnapshot = $p.VMSnapshot }
    if (-not [IO.Directory]::Exists($p.Path)) { Fail 'ObjectNotFound,Microsoft.HyperV.PowerShell.Commands.ExportVMSnapshot' ObjectNotFound 'Der Pfad wurde nicht gefunden.' 0x80070003 }
    $folder = "$($p.Path)/$($snapshot.config.name)"
    if ([IO.Directory]::Exists($folder)) { Fail 'FileExists,Microsoft.HyperV.PowerShell.Commands.ExportVMSnapshot' ResourceExists 'Die Datei ist bereits vorhanden.' 0x80070050 }
    $null = [IO.Directory]::CreateDirectory("$folder/Virtual Machines")
    [IO.File]::WriteAllText("$folder/Virtual Machines/$([guid]::NewGuid()).vmcx", 'x' * 100)
    if ($snapshot.state -eq 'Saved') { [IO.File]::WriteAllText("$folder/Virtual Machines/$([guid]::NewGuid()).VMRS", 'm' * 20000) }
    $chain = @(for ($path = $snapshot.config.disk; $path; $path = $state.vhds[$path].parent) { $path })
    # Where it leaves the chain as it is.
    if (-not $state.exportsChains) { $chain = @($chain[0]) } else { [array]::Reverse($chain) }
    $parent = $null
    foreach ($path in $chain) {
      $copy = "$folder/Virtual Hard Disks/$([IO.Path]::GetFileName($path))"
      Copy-Disk $path $copy $parent
      $parent = $copy
    }
    foreach ($path in $state.moreDisks) { Copy-Disk $path "$folder/Virtual Hard Disks/$([IO.Path]::GetFileName($path))" $null }
  }
  'Remove-VMSnapshot' = {
    $snapshot = Find-Snapshot $p
    $state.snapshots = @($state.snapshots | Where-Object { $_.id -ne $snapshot.id })
    $vm = $state.vms | Where-Object { $_.id -eq $snapshot.vm }
    [IO.File]::Delete("$($vm.path)/Snapshots/$($snapshot.id).VMRS")
    Merge-Disk $snapshot.vm $snapshot.config.disk
  }
  'Get-VMHardDiskDrive' = {
    $path = $(if ($p.ContainsKey('VMSnapshot')) { (Find-Snapshot $p).config.disk } else { (Find-Vm $p).disk })
    [HardDiskDrive]@{ Path = $path }
  }
  'Remove-VM' = {
    $vm = Find-Vm $p
    if (-not $p.Force) { Fail 'InvalidOperation' InvalidOperation 'PowerShell befindet sich im nicht interaktiven Modus.' }
    if ($vm.state -notin 'Off', 'Saved', 'FastSaved', 'OffCritical', 'SavedCritical') { Fail-State RemoveVM $vm }
    # It deletes no disk, and merges the differences of checkpoints after it returned.
    $hadSnapshots = @($state.snapshots | Where-Object { $_.vm -eq $vm.id }).Count -gt 0
    $state.vms = @($state.vms | Where-Object { $_.id -ne $vm.id })
    $state.snapshots = @($state.snapshots | Where-Object { $_.vm -ne $vm.id })
    foreach ($path in @($state.vhds.Keys | Where-Object { $hadSnapshots -and $_ -like '*.avhdx' -and $_.StartsWith([IO.Path]::GetDirectoryName($vm.path)) })) {
      if ([IO.File]::Exists($path)) { Start-Merge $vm.id $path }
      $state.vhds.Remove($path)
    }
    Remove-Item -LiteralPath $vm.path -Recurse -Force
  }
  'New-VHD' = {
    if ($state.parentSizes -and $p.ContainsKey('SizeBytes')) { Fail 'InvalidParameter,Microsoft.Vhd.PowerShell.Cmdlets.NewVhd' InvalidArgument 'Die Größe.' }
    New-Disk @($p.Path)[0] $p.ParentPath $(if ($p.ContainsKey('SizeBytes')) { $p.SizeBytes } else { (Get-Disk $p.ParentPath).size })
  }
  'Get-VHD' = {
    $path = @($p.Path)[0]
    $vhd = Get-Disk $path
    [pscustomobject]@{ Path = $path; Size = $vhd.size; FileSize = ([IO.FileInfo]$path).Length; ParentPath = $vhd.parent; VhdType = $(if ($vhd.parent) { 'Differencing' } else { 'Dynamic' }); VhdFormat = 'VHDX' }
  }
  # An offline operation: the disk must not be attached. Whether one below an attached disk is, nobody says: it counts as such here.
  'Convert-VHD' = {
    if (@(Get-OpenDisks) -contains $p.Path) { Fail 'ObjectInUse,Microsoft.Vhd.PowerShell.Cmdlets.ConvertVhd' ResourceBusy 'Der Prozess kann nicht auf die Datei zugreifen.' 0x80070020 }
    $type = $(if ($p.ContainsKey('VHDType')) { $p.VHDType } elseif ((Get-Disk $p.Path).parent) { 'Differencing' } else { 'Dynamic' })
    if (($type -eq 'Differencing') -ne $p.ContainsKey('ParentPath')) { Fail 'InvalidParameter,Microsoft.Vhd.PowerShell.Cmdlets.ConvertVhd' InvalidArgument 'ParentPath.' }
    Copy-Disk $p.Path $p.DestinationPath $(if ($state.convertsToChains) { $p.Path } else { $p.ParentPath })
  }
  'Resize-VHD' = { (Get-Disk @($p.Path)[0]).size = $p.SizeBytes }
  'Get-VMHost' = {
    if ($state.silent) { Fail 'AccessDenied,Microsoft.HyperV.PowerShell.Commands.GetVMHost' PermissionDenied 'Sie verfügen nicht über die erforderliche Berechtigung.' }
    [pscustomobject]@{ LogicalProcessorCount = 16; MemoryCapacity = 34359738368 }
  }
  'Get-CimInstance' = { [pscustomobject]@{ Caption = 'Microsoft Windows 11 Pro'; Version = '10.0.26100'; FreePhysicalMemory = [uint64]($state.free / 1024) } }
  'Get-VMSwitch' = { foreach ($switch in $state.switches) { [pscustomobject]@{ Name = $switch.name; SwitchType = $switch.type; Id = [guid]::NewGuid() } } }
  'New-VMSwitch' = {
    $state.switches += @(@{ name = $p.Name; type = $p.SwitchType })
    # An address that Windows gives itself until there is another.
    $state.addresses += @(@{ address = '169.254.11.12'; bits = 16; interface = "vEthernet ($($p.Name))" })
    [pscustomobject]@{ Name = $p.Name; SwitchType = $p.SwitchType }
  }
  'Remove-VMSwitch' = {
    if (-not $p.Force) { throw 'it would ask' }
    $names = @($p.VMSwitch | ForEach-Object { $_.Name })
    $state.switches = @($state.switches | Where-Object { $names -notcontains $_.name })
    $state.addresses = @($state.addresses | Where-Object { $names -notcontains $_.interface.Replace('vEthernet (', '').Replace(')', '') })
  }
  'Get-NetNat' = { foreach ($nat in $state.nats) { [pscustomobject]@{ Name = $nat.name; InternalIPInterfaceAddressPrefix = $nat.prefix } } }
  'New-NetNat' = {
    if ($state.unprivileged) { Fail 'Windows System Error 5,New-NetNat' PermissionDenied 'Zugriff verweigert' 0x80070005 }
    if (@($state.nats | Where-Object { $_.prefix -eq $p.InternalIPInterfaceAddressPrefix }).Count -gt 0) { Fail 'Windows System Error 87,New-NetNat' InvalidArgument 'Falscher Parameter.' 0x80070057 }
    $state.nats += @(@{ name = $p.Name; prefix = $p.InternalIPInterfaceAddressPrefix })
  }
  'Get-NetIPAddress' = { foreach ($each in $state.addresses) { [pscustomobject]@{ IPAddress = $each.address; PrefixLength = $each.bits; InterfaceAlias = $each.interface } } }
  'New-NetIPAddress' = {
    if ($state.unprivileged) { Fail 'Windows System Error 5,New-NetIPAddress' PermissionDenied 'Zugriff verweigert' 0x80070005 }
    $state.addresses = @($state.addresses | Where-Object { $_.interface -ne $p.InterfaceAlias }) + @(@{ address = $p.IPAddress; bits = $p.PrefixLength; interface = $p.InterfaceAlias })
  }
  'Get-NetNeighbor' = { foreach ($each in $state.neighbours) { [pscustomobject]@{ IPAddress = $each.address; LinkLayerAddress = $each.mac } } }
}
$reads = '^Get-(?!VHD$)'

function Show-Parameter($name, $value) {
  if ($value -is [switch]) { return $(if ($value) { "-$name" } else { "-${name}:`$false" }) }
  if ($value -is [array]) { $value = $value[0] }
  if ($value -is [guid]) { return "-$name GUID" }
  if ($value -is [bool]) { return "-$name `$$value".ToLower().Replace($name.ToLower(), $name) }
  if ($value -isnot [string] -and $value -isnot [ValueType]) { return "-$name <$($value.GetType().Name)>" }
  if ("$value" -match '[ {]') { return "-$name '$("$value" -replace '\s', ' ')'" }
  "-$name $value"
}

function Invoke-StandIn($name, $p) {
  Open-State
  $script:changed = $false
  $isDone = $false
  try {
    $fault = $state.faults[$name]
    if ($fault) { Fail $fault.id $fault.category $fault.message $fault.code }
    if (-not $cmdlets.ContainsKey($name)) { Fail 'NotImplemented' NotImplemented "the stand-in has no $name" }
    [IO.File]::AppendAllText("$root/cmdlets.log", "$name $((@($p.Keys) | Sort-Object | ForEach-Object { Show-Parameter $_ $p[$_] }) -join ' ')`n")
    if ($state.pauses[$name]) {
      $pause = $state.pauses[$name]
      Close-State $false
      Start-Sleep -Milliseconds $pause
      Open-State
    }
    if ($state.leaves[$name]) {
      $state.vms = @($state.vms | Where-Object { $_.name -ne $state.leaves[$name] })
      Close-State $true
      Open-State
    }
    $output = @(. $cmdlets[$name])
    $isDone = $true
  } finally { Close-State ($isDone -and ($changed -or $name -notmatch $reads)) }
  # The next command of a pipeline looks at the state, too.
  $output
}
