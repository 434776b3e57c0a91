# Makes a file ready to be a disk, and says what it holds. Hyper-V refuses a file that NTFS holds as sparse, as qemu-img writes it.
& (Join-Path (Join-Path $env:SystemRoot 'System32') 'fsutil.exe') sparse setflag $a.disk 0 | Out-Null
if ($a.bytes -and [long](Hyper-V\Get-VHD -Path $a.disk).Size -lt $a.bytes) {
  Hyper-V\Resize-VHD -Path $a.disk -SizeBytes $a.bytes
}
$vhd = Hyper-V\Get-VHD -Path $a.disk
Write-Answer @{ bytes = [long]$vhd.Size; type = "$($vhd.VhdType)"; format = "$($vhd.VhdFormat)" }
