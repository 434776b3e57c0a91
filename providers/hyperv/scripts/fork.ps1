# Copies the disk of a checkpoint to each of $a.copies. $a.checkpoint null: of a new one, $a.temporary, which the caller removes.
# Nothing removes or makes these machines meanwhile.
foreach ($copy in $a.copies) { Enter-Lock $copy.vmId }
$vm = Wait-Steady (Get-Machine) 120
if ($a.checkpoint) {
  $found = @(Hyper-V\Get-VMSnapshot -VM $vm | Where-Object { $_.Name -ceq $a.checkpoint })
  if ($found.Count -eq 0) { Deny 'no-such-checkpoint' }
  if ($found.Count -gt 1) { Deny 'ambiguous-checkpoint' }
  $checkpoint = Hyper-V\Get-VMSnapshot -Id $found[0].Id
} else {
  $checkpoint = Hyper-V\Checkpoint-VM -VM $vm -SnapshotName $a.temporary -Passthru
}
Hyper-V\Export-VMSnapshot -VMSnapshot $checkpoint -Path $a.export
# The export has one merged disk; where it has a chain, the last one.
$disks = @(Get-ChildItem -LiteralPath $a.export -Recurse -File | Where-Object { $_.Extension -like '*vhdx' } | ForEach-Object { $_.FullName })
$parents = @($disks | ForEach-Object { "$((Hyper-V\Get-VHD -Path $_).ParentPath)" })
$last = @($disks | Where-Object { $parents -notcontains $_ })
if ($last.Count -ne 1) { Deny 'several-disks' }
foreach ($copy in $a.copies) {
  Hyper-V\Convert-VHD -Path $last[0] -DestinationPath $copy.disk -VHDType Dynamic
  if ("$((Hyper-V\Get-VHD -Path $copy.disk).ParentPath)") { Deny 'not-independent' }
}
Write-Answer @{ done = $true }
