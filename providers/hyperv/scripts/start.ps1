# Starts a machine, or lets it go on. $a.cold: gives a saved memory up.
$vm = Wait-Steady (Get-Machine) 120
$state = "$($vm.State)"
if ($a.cold -and ('Saved', 'SavedCritical', 'FastSaved' -contains $state)) {
  Hyper-V\Remove-VMSavedState -VM $vm -Confirm:$false
  $vm = Wait-Steady (Hyper-V\Get-VM -Id $vm.Id) 60
  $state = "$($vm.State)"
}
if ($state -eq 'Running') {
  Write-Answer @{ state = $state }
  exit 0
}
Set-Isolation $vm
if ($state -like 'Paused*') { Hyper-V\Resume-VM -VM $vm } else { Hyper-V\Start-VM -VM $vm }
$vm = Wait-Steady (Hyper-V\Get-VM -Id $vm.Id) 120
Write-Answer @{ state = "$($vm.State)" }
