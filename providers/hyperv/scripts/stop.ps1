# Shuts the guest down, and turns the machine off after $a.grace seconds.
$vm = Wait-Steady (Get-Machine) 120
$stopped = 'Off', 'Saved', 'FastSaved', 'OffCritical', 'SavedCritical'
if ($stopped -contains "$($vm.State)") {
  Write-Answer @{ state = "$($vm.State)" }
  exit 0
}
# A guest that is paused cannot shut down.
if ("$($vm.State)" -like 'Paused*') {
  try { Hyper-V\Resume-VM -VM $vm } catch { }
  $vm = Hyper-V\Get-VM -Id $vm.Id
}
# Without -AsJob it waits for five minutes.
if ("$($vm.State)" -notlike 'Paused*') {
  try { $null = Hyper-V\Stop-VM -VM $vm -Force -AsJob } catch { }
  $watch = [System.Diagnostics.Stopwatch]::StartNew()
  do {
    Start-Sleep -Milliseconds 250
    $vm = Hyper-V\Get-VM -Id $vm.Id
  } while ("$($vm.State)" -ne 'Off' -and $watch.Elapsed.TotalSeconds -lt $a.grace)
}
if ("$($vm.State)" -ne 'Off') {
  Hyper-V\Stop-VM -VM $vm -TurnOff -Force
  $vm = Wait-Steady (Hyper-V\Get-VM -Id $vm.Id) 60
}
Write-Answer @{ state = "$($vm.State)" }
