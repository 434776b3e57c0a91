# A rule of a port as one line, with ANY for what it leaves open, as Windows has it.
function Get-RuleText($rule) {
  @(foreach ($name in 'Direction', 'Weight', 'Action', 'RemoteIPAddress', 'LocalIPAddress', 'Protocol', 'LocalPort', 'RemotePort', 'Stateful') {
      if ("$($rule.$name)") { "$($rule.$name)" } else { 'ANY' }
    }) -join ' '
}
