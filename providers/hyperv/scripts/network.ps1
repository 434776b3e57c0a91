# Makes an internal switch with an address of the host and NAT; completes what is missing of it.
Enter-Lock 'network'
$made = $null
if (@(Hyper-V\Get-VMSwitch | Where-Object { $_.Name -ceq $a.switch }).Count -eq 0) {
  $made = Hyper-V\New-VMSwitch -Name $a.switch -SwitchType Internal
}
# A member of Hyper-V Administrators may make a switch, and not the rest. Names of switches are not unique: half of it would be in the way.
try {
  $alias = "vEthernet ($($a.switch))"
  $addresses = @(NetTCPIP\Get-NetIPAddress -AddressFamily IPv4 | Where-Object { $_.InterfaceAlias -eq $alias -and -not "$($_.IPAddress)".StartsWith('169.254.') })
  if ($addresses.Count -eq 0) {
    $null = NetTCPIP\New-NetIPAddress -IPAddress $a.gateway -PrefixLength $a.bits -InterfaceAlias $alias
  }
  if (@(NetNat\Get-NetNat | Where-Object { "$($_.InternalIPInterfaceAddressPrefix)" -eq $a.prefix }).Count -eq 0) {
    $null = NetNat\New-NetNat -Name $a.switch -InternalIPInterfaceAddressPrefix $a.prefix
  }
} catch {
  if ($made) { Hyper-V\Remove-VMSwitch -VMSwitch $made -Force }
  throw
}
Write-Answer @{ done = $true }
