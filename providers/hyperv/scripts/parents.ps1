# The disk below each of these.
$parents = @(foreach ($path in $a.disks) {
    $parent = $null
    try { $parent = "$((Hyper-V\Get-VHD -Path $path).ParentPath)" } catch { }
    @{ disk = $path; parent = $parent }
  })
Write-Answer @{ disks = $parents }
