# Isolates a machine by rules of its port. $a.rules null: it has none.
function Set-Isolation($vm) {
  foreach ($adapter in @(Hyper-V\Get-VMNetworkAdapter -VM $vm)) {
    Hyper-V\Set-VMNetworkAdapter -VMNetworkAdapter $adapter -MacAddressSpoofing Off -DhcpGuard On -RouterGuard On
    if ($null -eq $a.rules) { continue }
    $present = @(Hyper-V\Get-VMNetworkAdapterExtendedAcl -VMNetworkAdapter $adapter)
    $have = @($present | ForEach-Object { Get-RuleText $_ } | Sort-Object)
    $want = @($a.rules | ForEach-Object { $_.text } | Sort-Object)
    if (($have -join "`n") -eq ($want -join "`n")) { continue }
    foreach ($rule in $present) { Hyper-V\Remove-VMNetworkAdapterExtendedAcl -InputObject $rule -Confirm:$false }
    foreach ($rule in $a.rules) {
      $more = @{}
      foreach ($each in $rule.parameters.PSObject.Properties) { $more[$each.Name] = $each.Value }
      Hyper-V\Add-VMNetworkAdapterExtendedAcl -VMNetworkAdapter $adapter @more
    }
  }
}
