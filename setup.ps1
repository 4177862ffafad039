# From nothing to a running app: .\setup.ps1 for the example, .\setup.ps1 ..\shop for an app of your own.
# Apps run on Linux. With WSL they run there; without it, percore is installed here, to deploy to hosts.
param([string]$App = "")
$ErrorActionPreference = "Stop"

function ConvertTo-LinuxPath([string]$Path) {
    & wsl.exe wslpath -a ((Resolve-Path -LiteralPath $Path).Path -replace '\\', '/')
}

if (Get-Command wsl.exe -ErrorAction SilentlyContinue) {
    $script = ConvertTo-LinuxPath "$PSScriptRoot\setup.sh"
    if ($LASTEXITCODE -eq 0) {
        $words = @($script)
        if ($App) { $words += ConvertTo-LinuxPath $App }
        & wsl.exe --exec sh @words
        exit $LASTEXITCODE
    }
}

$python = @("py", "python") | Where-Object { Get-Command $_ -ErrorAction SilentlyContinue } | Select-Object -First 1
if (-not $python) {
    Write-Error "setup: Python 3.11 or newer is needed -> winget install Python.Python.3.13"
}
$environment = Join-Path $PSScriptRoot ".venv"
& $python -m venv $environment
if ($LASTEXITCODE -ne 0) { exit $LASTEXITCODE }
$commands = Join-Path $environment "Scripts"
& "$commands\python.exe" -m pip install --quiet "$($PSScriptRoot)[deploy]"
if ($LASTEXITCODE -ne 0) { exit $LASTEXITCODE }
$env:PATH = "$commands;$env:PATH"
if (-not $App) {
    Write-Output "percore is installed -> .\setup.ps1 DIRECTORY prepares an app of yours"
    exit 0
}
Set-Location -LiteralPath $App
& "$commands\percore.exe" init --env production
exit $LASTEXITCODE
