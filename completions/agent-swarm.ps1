# Completion of agent-swarm in PowerShell 5.1 and newer. In $PROFILE:
#     agent-swarm completion powershell | Out-String | Invoke-Expression

Register-ArgumentCompleter -Native -CommandName agent-swarm -ScriptBlock {
  param($word, $line, $cursor)
  $words = @($line.CommandElements | Where-Object { $_.Extent.EndOffset -lt $cursor } | ForEach-Object { $_.Extent.Text })
  # Base64, because PowerShell drops empty arguments and "--", and quotes differently in each version.
  $typed = [Convert]::ToBase64String([Text.Encoding]::UTF8.GetBytes((($words + "$word") -join "`n")))
  agent-swarm completion powershell $typed 2>$null | ForEach-Object {
    if ($_ -eq ':files') {
      [System.Management.Automation.CompletionCompleters]::CompleteFilename("$word")
    } else {
      $value, $help = $_ -split "`t", 2
      # A result must have a help text.
      if (-not $help) { $help = $value }
      [System.Management.Automation.CompletionResult]::new($value, $value, 'ParameterValue', $help)
    }
  }
}
