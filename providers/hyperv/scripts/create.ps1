# Makes a machine. $a.base null: its disk is there already.
# Two machines that are made at once would choose the same address.
Enter-Lock 'addresses'
if (-not $a.base) {
  # A script outlives a recovery that is killed, and may have made it meanwhile. A VM that is not made never ran, and its disk stays.
  $left = Get-Machine
  if ((Read-Mark $left).made) {
    Write-Answer @{ done = $true; existed = $true }
    exit 0
  }
  if ($left) { Hyper-V\Remove-VM -VM $left -Force }
}
$all = @(Hyper-V\Get-VM)
Assert-NotRenamed $all
if ($a.mark.address -and @($all | Where-Object { "$((Read-Mark $_).address)" -eq $a.mark.address }).Count -gt 0) { Deny 'address-taken' }

# Only its owner and the host read the folder, which holds the guest's host key. Hyper-V adds its own account when it attaches a file,
# and permissions that are set after that keep the machine from starting.
# Git brings a whoami of its own.
$programs = Join-Path $env:SystemRoot 'System32'
$sid = "$(& (Join-Path $programs 'whoami.exe') /user /fo csv /nh)".Split(',')[-1].Trim('"', ' ')
& (Join-Path $programs 'icacls.exe') $a.folder /inheritance:r /grant:r "*${sid}:(OI)(CI)F" '*S-1-5-18:(OI)(CI)F' | Out-Null
if ($LASTEXITCODE -ne 0) { Deny 'no-permissions' }
if ($a.seed) { [System.IO.File]::WriteAllBytes($a.seedPath, [Convert]::FromBase64String($a.seed)) }

if ($a.base) {
  $size = [long](Hyper-V\Get-VHD -Path $a.base).Size
  if ($size -gt $a.bytes) { Deny 'disk-too-small' }
  try {
    $null = Hyper-V\New-VHD -Path $a.disk -ParentPath $a.base -Differencing -SizeBytes $a.bytes
  } catch {
    # Where it takes only the parent's size.
    if (Test-Path -LiteralPath $a.disk) { Remove-Item -LiteralPath $a.disk }
    $null = Hyper-V\New-VHD -Path $a.disk -ParentPath $a.base -Differencing
    if ($size -lt $a.bytes) { Hyper-V\Resize-VHD -Path $a.disk -SizeBytes $a.bytes }
  }
}

$vm = Hyper-V\New-VM -Name $a.vmId -Generation 2 -MemoryStartupBytes $a.memory -VHDPath $a.disk -Path $a.folder -SwitchName $a.switch
$a.mark.made = $false
Write-Mark $vm $a.mark

Hyper-V\Set-VM -VM $vm -ProcessorCount $a.cpus -StaticMemory -CheckpointType Standard -AutomaticCheckpointsEnabled $false -AutomaticStopAction ShutDown -AutomaticStartAction Nothing
Hyper-V\Set-VMFirmware -VM $vm -EnableSecureBoot On -SecureBootTemplate MicrosoftUEFICertificateAuthority
foreach ($adapter in @(Hyper-V\Get-VMNetworkAdapter -VM $vm)) {
  Hyper-V\Set-VMNetworkAdapter -VMNetworkAdapter $adapter -StaticMacAddress "$($a.mark.mac)".Replace(':', '')
}
Hyper-V\Add-VMDvdDrive -VM $vm -Path $a.seedPath
Set-Isolation $vm
$a.mark.made = $true
Write-Mark (Hyper-V\Get-VM -Id $vm.Id) $a.mark
Write-Answer @{ done = $true }
