# Removes a checkpoint, and waits a while until its differences are merged.
$vm = Wait-Steady (Get-Machine) 120
$found = @(Hyper-V\Get-VMSnapshot -VM $vm | Where-Object { $_.Name -ceq $a.checkpoint })
foreach ($each in $found) {
  $checkpoint = Hyper-V\Get-VMSnapshot -Id $each.Id
  Hyper-V\Remove-VMSnapshot -VMSnapshot $checkpoint -Confirm:$false
}
$watch = [System.Diagnostics.Stopwatch]::StartNew()
while ($found.Count -gt 0 -and $watch.Elapsed.TotalSeconds -lt $a.patience) {
  $used = @(Hyper-V\Get-VMHardDiskDrive -VM (Hyper-V\Get-VM -Id $vm.Id)) + @(Hyper-V\Get-VMSnapshot -VM $vm | ForEach-Object { Hyper-V\Get-VMHardDiskDrive -VMSnapshot $_ })
  $paths = @($used | ForEach-Object { $_.Path })
  $merging = @(Get-ChildItem -LiteralPath $a.folder -Filter *.avhdx -Recurse | Where-Object { $paths -notcontains $_.FullName })
  if ($merging.Count -eq 0) { break }
  Start-Sleep -Milliseconds 250
}
Write-Answer @{ done = $true }
