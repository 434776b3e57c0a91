# Every script begins with this. Data comes as one JSON object on stdin, the answer goes as one line to stdout. Windows PowerShell 5.1.
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
$WarningPreference = 'SilentlyContinue'
$utf8 = New-Object System.Text.UTF8Encoding $false

function Write-Answer($answer) {
  $json = ConvertTo-Json -InputObject $answer -Depth 6 -Compress
  $bytes = $utf8.GetBytes("`n<agent-swarm>$json</agent-swarm>`n")
  # A process without a console has no [Console]::OutputEncoding.
  $stdout = [Console]::OpenStandardOutput()
  $stdout.Write($bytes, 0, $bytes.Length)
  $stdout.Flush()
}

# Messages are in the system's language: what happened is decided by the id, the category and the code.
trap {
  $deepest = $_.Exception
  while ($deepest.InnerException) { $deepest = $deepest.InnerException }
  Write-Answer @{ error = @{
      id       = "$($_.FullyQualifiedErrorId)"
      category = "$($_.CategoryInfo.Category)"
      code     = '0x{0:X8}' -f $deepest.HResult
      message  = "$($_.Exception.Message)"
    } }
  exit 0
}

function Deny($why) {
  Write-Answer @{ refused = $why }
  exit 0
}

$a = ConvertFrom-Json -InputObject (New-Object System.IO.StreamReader([Console]::OpenStandardInput(), $utf8)).ReadToEnd()

# Held until this process ends. One that an Administrator's process or another user holds cannot be opened.
function Enter-Lock($name) {
  $isHeld = $false
  try {
    $script:locks += @([System.Threading.Mutex]::new($false, "Global\agent-swarm-$name"))
    $isHeld = $script:locks[-1].WaitOne(300000)
  } catch [System.Threading.AbandonedMutexException] { $isHeld = $true
  } catch [System.UnauthorizedAccessException] { }
  if (-not $isHeld) { Deny 'locked' }
}
# A script outlives an agent-swarm that is killed. The next one for the same machine waits for it.
if ($a.vmId -and -not $a.readsOnly) { Enter-Lock $a.vmId }

function Read-Mark($vm) {
  foreach ($line in "$($vm.Notes)" -split "`r?`n") {
    if ($line.StartsWith('agent-swarm {') -and $line.Length -lt 2000) {
      try { return ConvertFrom-Json -InputObject $line.Substring(12) } catch { return $null }
    }
  }
}

# Keeps what a person wrote into the notes.
function Write-Mark($vm, $mark) {
  $line = 'agent-swarm ' + (ConvertTo-Json -InputObject $mark -Compress)
  $others = @("$($vm.Notes)" -split "`r?`n" | Where-Object { $_ -and -not $_.StartsWith('agent-swarm {') })
  Hyper-V\Set-VM -VM $vm -Notes ((@($line) + $others) -join "`n")
}

# New-VM takes no notes: until the next command, the folder says whose the machine is.
function Test-Ours($vm) {
  $mark = Read-Mark $vm
  if ($mark) { return "$($mark.vmId)" -ceq $a.vmId -and "$($mark.home)" -ceq $a.homeId }
  return $a.ownsFolder -and -not $vm.Notes -and "$($vm.Path)".StartsWith($a.folder, [StringComparison]::OrdinalIgnoreCase)
}

# Where this user may not use Hyper-V, the list may be empty instead of an error, which Get-VMHost gives.
function Get-AllMachines {
  $all = @(Hyper-V\Get-VM)
  if ($all.Count -eq 0) { $null = Hyper-V\Get-VMHost }
  return $all
}

# Another command may remove a machine that this one reads.
function Test-Gone($vm) { @(Get-AllMachines | Where-Object { $_.Id -eq $vm.Id }).Count -eq 0 }

# The mark goes with a VM that somebody gave another name, and so do its disks.
function Assert-NotRenamed($all) {
  if (@($all | Where-Object { $_.Name -cne $a.vmId -and (Test-Ours $_) }).Count -gt 0) { Deny 'renamed' }
}

# -Name takes wildcards and names are not unique: all machines are read, and the object is used from then on.
function Get-Machine {
  $all = @(Get-AllMachines)
  $named = @($all | Where-Object { $_.Name -ceq $a.vmId })
  $ours = @($named | Where-Object { Test-Ours $_ })
  if ($ours.Count -gt 1) { Deny 'ambiguous' }
  if ($ours.Count -eq 1) { return $ours[0] }
  if ($named.Count -gt 0) {
    Deny $(if (@($named | Where-Object { Read-Mark $_ }).Count -gt 0) { 'other-home' } else { 'no-mark' })
  }
  Assert-NotRenamed $all
  if (-not $a.mayBeAbsent) { Deny 'no-such-vm' }
}
