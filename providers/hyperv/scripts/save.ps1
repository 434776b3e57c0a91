# Writes the memory to the disk, and turns the machine off.
$vm = Wait-Steady (Get-Machine) 120
if ("$($vm.State)" -eq 'Running') {
  Hyper-V\Save-VM -VM $vm
  $vm = Wait-Steady (Hyper-V\Get-VM -Id $vm.Id) 300
}
Write-Answer @{ state = "$($vm.State)" }
