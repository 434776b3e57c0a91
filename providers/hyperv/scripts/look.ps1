# One machine: its state, its addresses and its checkpoints.
$vm = Get-Machine
$notes = "$($vm.Notes)"
$addresses = [string[]]@($vm.NetworkAdapters | ForEach-Object { $_.IPAddresses } | Where-Object { $_ } | Select-Object -First 20)
$neighbours = [string[]]@()
$mark = Read-Mark $vm
if ($a.addresses -and -not $mark.address -and $addresses.Count -eq 0) {
  $mac = "$($mark.mac)".Replace(':', '-')
  $neighbours = [string[]]@(NetTCPIP\Get-NetNeighbor -AddressFamily IPv4 | Where-Object { $_.LinkLayerAddress -eq $mac } | ForEach-Object { "$($_.IPAddress)" } | Select-Object -First 20)
}
try {
  $checkpoints = @(Hyper-V\Get-VMSnapshot -VM $vm | Sort-Object -Property CreationTime | ForEach-Object { "$($_.Name)" })
} catch {
  if (Test-Gone $vm) { Deny 'no-such-vm' }
  throw
}
Write-Answer @{
  notes       = $notes.Substring(0, [Math]::Min($notes.Length, 4000))
  state       = "$($vm.State)"
  addresses   = $addresses
  neighbours  = $neighbours
  checkpoints = $checkpoints
}
