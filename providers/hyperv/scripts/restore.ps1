# Restores a checkpoint. The machine is then as it was captured, with its present mark. $a.cold: without its memory, and stopped.
$vm = Wait-Steady (Get-Machine) 120
$mark = Read-Mark $vm
$found = @(Hyper-V\Get-VMSnapshot -VM $vm | Where-Object { $_.Name -ceq $a.checkpoint })
if ($found.Count -eq 0) { Deny 'no-such-checkpoint' }
if ($found.Count -gt 1) { Deny 'ambiguous-checkpoint' }
# Names are not unique: from here on, it is addressed by its id.
$checkpoint = Hyper-V\Get-VMSnapshot -Id $found[0].Id
$wasRunning = "$($checkpoint.State)" -ne 'Off'
Hyper-V\Restore-VMSnapshot -VMSnapshot $checkpoint -Confirm:$false
$vm = Wait-Steady (Hyper-V\Get-VM -Id $vm.Id) 120
# The configuration of the capture came back, with its notes and its rules.
Write-Mark $vm $mark
Set-Isolation $vm
$state = "$($vm.State)"
$isSaved = 'Saved', 'FastSaved' -contains $state
if ($a.cold -or -not $wasRunning) {
  if ($isSaved) { Hyper-V\Remove-VMSavedState -VM $vm -Confirm:$false }
  elseif ($state -ne 'Off') { Hyper-V\Stop-VM -VM $vm -TurnOff -Force }
} elseif ($state -like 'Paused*') { Hyper-V\Resume-VM -VM $vm }
elseif ($state -ne 'Running') { Hyper-V\Start-VM -VM $vm }
$vm = Wait-Steady (Hyper-V\Get-VM -Id $vm.Id) 120
Write-Answer @{ state = "$($vm.State)" }
