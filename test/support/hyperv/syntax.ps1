# Says what Windows PowerShell 5.1 lacks in each of these texts, by PowerShell's own syntax tree. In: [{name, text}] on stdin.
$parameters = 'Parallel', 'AsArray', 'AsHashtable', 'EscapeHandling', 'AsUTC', 'EnumsAsStrings', 'AsByteStream', 'AdditionalChildPath', 'LeafBase', 'Duration', 'NoTypeConversion', 'SkipCertificateCheck'
$files = ConvertFrom-Json -InputObject ([Console]::In.ReadToEnd())
$answer = @{}
foreach ($file in $files) {
  $errors = $null
  $tree = [System.Management.Automation.Language.Parser]::ParseInput($file.text, [ref]$null, [ref]$errors)
  $found = @($errors | ForEach-Object { "does not parse: $($_.Message)" })
  foreach ($node in $tree.FindAll({ $true }, $true)) {
    $kind = $node.GetType().Name
    if ($kind -eq 'PipelineChainAst') { $found += '&& or ||' }
    if ($kind -eq 'TernaryExpressionAst') { $found += '? :' }
    if ($kind -eq 'BinaryExpressionAst' -and $node.Operator -eq 'QuestionQuestion') { $found += '??' }
    if ($kind -eq 'AssignmentStatementAst' -and $node.Operator -eq 'QuestionQuestionEquals') { $found += '??=' }
    if ($node.PSObject.Properties['NullConditional'] -and $node.NullConditional) { $found += '?. or ?[' }
    if ($kind -eq 'PipelineAst' -and $node.Background) { $found += '&' }
    if ($kind -eq 'ScriptBlockAst' -and $node.CleanBlock) { $found += 'clean' }
    if ($kind -eq 'CommandParameterAst' -and $parameters -contains $node.ParameterName) { $found += "-$($node.ParameterName)" }
  }
  $answer[$file.name] = [string[]]@($found)
}
[Console]::Out.Write((ConvertTo-Json -InputObject $answer -Depth 3 -Compress))
