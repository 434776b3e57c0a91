# Isolates a machine by rules of its port. $a.rules null: it has none.
function Get-RuleText($direction, $weight, $action, $remote) { "$direction $weight $action $remote" }

function Set-Isolation($vm) {
  foreach ($adapter in @(Hyper-V\Get-VMNetworkAdapter -VM $vm)) {
    Hyper-V\Set-VMNetworkAdapter -VMNetworkAdapter $adapter -MacAddressSpoofing Off -DhcpGuard On -RouterGuard On
    if ($null -eq $a.rules) { continue }
    $present = @(Hyper-V\Get-VMNetworkAdapterExtendedAcl -VMNetworkAdapter $adapter)
    $have = @($present | ForEach-Object { Get-RuleText $_.Direction $_.Weight $_.Action $_.RemoteIPAddress } | Sort-Object)
    $want = @($a.rules | ForEach-Object { Get-RuleText $_.direction $_.weight $_.action $_.remote } | Sort-Object)
    if (($have -join "`n") -eq ($want -join "`n")) { continue }
    foreach ($rule in $present) { Hyper-V\Remove-VMNetworkAdapterExtendedAcl -InputObject $rule -Confirm:$false }
    foreach ($rule in $a.rules) {
      $more = @{}
      if ($rule.local) { $more.LocalIPAddress = $rule.local }
      if ($rule.protocol) { $more.Protocol = $rule.protocol }
      if ($rule.localPort) { $more.LocalPort = $rule.localPort }
      if ($rule.remotePort) { $more.RemotePort = $rule.remotePort }
      if ($rule.stateful) { $more.Stateful = $true }
      Hyper-V\Add-VMNetworkAdapterExtendedAcl -VMNetworkAdapter $adapter -Action $rule.action -Direction $rule.direction -Weight $rule.weight -RemoteIPAddress $rule.remote @more
    }
  }
}
