# Makes a standard checkpoint, which holds the memory of a running guest.
$vm = Wait-Steady (Get-Machine) 120
if (@(Hyper-V\Get-VMSnapshot -VM $vm | Where-Object { $_.Name -ceq $a.checkpoint }).Count -gt 0) { Deny 'already-exists' }
$null = Hyper-V\Checkpoint-VM -VM $vm -SnapshotName $a.checkpoint -Passthru
Write-Answer @{ done = $true }
