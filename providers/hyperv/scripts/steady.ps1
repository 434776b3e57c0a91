# The machine, when its state does not change any more.
function Wait-Steady($vm, $seconds) {
  $watch = [System.Diagnostics.Stopwatch]::StartNew()
  $moving = 'Starting', 'Stopping', 'Saving', 'Pausing', 'Resuming', 'Reset', 'FastSaving'
  while ($moving -contains "$($vm.State)" -and $watch.Elapsed.TotalSeconds -lt $seconds) {
    Start-Sleep -Milliseconds 250
    $vm = Hyper-V\Get-VM -Id $vm.Id
  }
  return $vm
}
