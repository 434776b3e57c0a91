# Removes a machine, and waits until the disks of its checkpoints are merged. Its files are the caller's to remove.
$a | Add-Member -NotePropertyName mayBeAbsent -NotePropertyValue $true
$vm = Get-Machine
$disks = @()
if ($vm) {
  # Remove-VM deletes no disk and merges after it returned, when nothing names the disks any more.
  $disks += @(Hyper-V\Get-VMHardDiskDrive -VM $vm | ForEach-Object { $_.Path })
  foreach ($checkpoint in @(Hyper-V\Get-VMSnapshot -VM $vm)) {
    $disks += @(Hyper-V\Get-VMHardDiskDrive -VMSnapshot $checkpoint | ForEach-Object { $_.Path })
  }
  $vm = Wait-Steady $vm 60
  if ('Off', 'Saved', 'FastSaved', 'OffCritical', 'SavedCritical' -notcontains "$($vm.State)") {
    Hyper-V\Stop-VM -VM $vm -TurnOff -Force
    $vm = Wait-Steady (Hyper-V\Get-VM -Id $vm.Id) 60
  }
  Hyper-V\Remove-VM -VM $vm -Force
}
if (Test-Path -LiteralPath $a.folder) {
  $disks += @(Get-ChildItem -LiteralPath $a.folder -Recurse -File | Where-Object { $_.Extension -like '*vhdx' } | ForEach-Object { $_.FullName })
}

function Test-Open($path) {
  try {
    [System.IO.File]::Open($path, 'Open', 'Read', 'Read').Close()
    return $false
  } catch [System.IO.FileNotFoundException] { return $false } catch { return $true }
}

# A merge that did not begin yet looks like one that never comes: only quiet for some seconds is its end.
$quietSeconds = $(if ($vm) { 15 } else { 3 })
$watch = [System.Diagnostics.Stopwatch]::StartNew()
$quiet = [System.Diagnostics.Stopwatch]::StartNew()
$before = -1
while ($true) {
  $merging = @($disks | Select-Object -Unique | Where-Object { $_ -like '*.avhdx' -and (Test-Path -LiteralPath $_) })
  $open = @($disks | Select-Object -Unique | Where-Object { (Test-Path -LiteralPath $_) -and (Test-Open $_) })
  if ($open.Count -gt 0 -or $merging.Count -ne $before) { $quiet.Restart() }
  $before = $merging.Count
  if ($open.Count -eq 0 -and ($merging.Count -eq 0 -or $quiet.Elapsed.TotalSeconds -gt $quietSeconds)) { break }
  if ($watch.Elapsed.TotalSeconds -gt $a.patience) { Deny 'merging' }
  Start-Sleep -Milliseconds 250
}
Write-Answer @{ done = $true }
