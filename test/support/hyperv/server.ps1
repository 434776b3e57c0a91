# Runs scripts in one warm process, each in a runspace and on a thread of its own, since a start of PowerShell takes a second of
# processor time. A request is a line in a pipe: the name of its files.
$root = $env:HYPERV_STAND_IN
$pipe = New-Object System.IO.StreamReader([System.IO.File]::Open("$root/requests", 'Open', 'ReadWrite', 'ReadWrite'))
$running = [System.Collections.Generic.List[object]]::new()
while ($null -ne ($id = $pipe.ReadLine())) {
  if ($id -eq 'end') { break }
  foreach ($each in @($running | Where-Object { $_.handle.IsCompleted })) {
    $each.runspace.Dispose()
    $null = $running.Remove($each)
  }
  $file = "$root/spool/$id"
  $text = [System.Text.Encoding]::Unicode.GetString([Convert]::FromBase64String([System.IO.File]::ReadAllText("$file.script").Trim()))
  # A process has standard streams, a runspace has none.
  $text = $text.Replace('[Console]::OpenStandardInput()', '$standIn.in').Replace('[Console]::OpenStandardOutput()', '$standIn.out')
  $runspace = [runspacefactory]::CreateRunspace([initialsessionstate]::CreateDefault2())
  # A mutex is released when its thread ends.
  $runspace.ThreadOptions = 'UseNewThread'
  $runspace.Open()
  $streams = @{ in = [System.IO.File]::OpenRead("$file.in"); out = [System.IO.File]::Open("$file.out", 'Open', 'Write', 'ReadWrite') }
  $runspace.SessionStateProxy.SetVariable('standIn', $streams)
  $shell = [powershell]::Create()
  $shell.Runspace = $runspace
  $null = $shell.AddScript($text)
  $running.Add(@{ runspace = $runspace; handle = $shell.BeginInvoke() })
}
