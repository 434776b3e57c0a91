# Isolates a machine by rules of its port. $a.rules null: it has none.
function Set-Isolation($vm) {
  foreach ($adapter in @(Hyper-V\Get-VMNetworkAdapter -VM $vm)) {
    Hyper-V\Set-VMNetworkAdapter -VMNetworkAdapter $adapter -MacAddressSpoofing Off -DhcpGuard On -RouterGuard On
    if ($null -eq $a.rules) { continue }
    $present = @(Hyper-V\Get-VMNetworkAdapterExtendedAcl -VMNetworkAdapter $adapter)
    $have = @($present | ForEach-Object { Get-RuleText $_ } | Sort-Object)
    $want = @($a.rules | ForEach-Object { $_.text } | Sort-Object)
    if (($have -join "`n") -eq ($want -join "`n")) { continue }
    # Two rules close the port until all others are written. A script that is killed leaves them.
    foreach ($direction in 'Inbound', 'Outbound') {
      if (@($present | Where-Object { $_.Weight -eq 65535 -and $_.Direction -eq $direction }).Count -eq 0) {
        Hyper-V\Add-VMNetworkAdapterExtendedAcl -VMNetworkAdapter $adapter -Action Deny -Direction $direction -Weight 65535
      }
    }
    foreach ($rule in @($present | Where-Object { $_.Weight -ne 65535 })) {
      Hyper-V\Remove-VMNetworkAdapterExtendedAcl -InputObject $rule -Confirm:$false
    }
    foreach ($rule in $a.rules) {
      $more = @{}
      foreach ($each in $rule.parameters.PSObject.Properties) { $more[$each.Name] = $each.Value }
      Hyper-V\Add-VMNetworkAdapterExtendedAcl -VMNetworkAdapter $adapter @more
    }
    foreach ($direction in 'Inbound', 'Outbound') {
      Hyper-V\Remove-VMNetworkAdapterExtendedAcl -VMNetworkAdapter $adapter -Direction $direction -Weight 65535 -Confirm:$false
    }
  }
}
