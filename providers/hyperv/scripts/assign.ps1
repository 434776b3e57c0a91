# Writes a ticket into the mark.
$vm = Get-Machine
$mark = Read-Mark $vm
if (-not $mark) { Deny 'no-such-vm' }
if ("$($mark.ticket)" -cne $a.ticket) {
  $mark.ticket = $a.ticket
  Write-Mark $vm $mark
}
Write-Answer @{ done = $true }
