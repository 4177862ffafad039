#!/bin/sh
# From nothing to a running app on this machine.
#   ./setup.sh           the example
#   ./setup.sh ../shop   an app of your own: what it needs is written there, and nothing of it is changed
# PERCORE_NO_INSTALL=1: install no package of the operating system.
set -eu
here=$(cd "$(dirname "$0")" && pwd)

[ $# -le 1 ] || { echo "setup: one directory at most -> ./setup.sh ../shop" >&2; exit 2; }
if [ $# = 0 ]; then
    cd "$here"
    exec ./run deploy --env local
fi

[ -d "$1" ] || { echo "setup: $1: there is no such directory -> name the directory of your app" >&2; exit 2; }
"$here/run" --version >/dev/null # makes .venv
PATH="$here/.venv/bin:$PATH"
export PERCORE_RUN="$here/.venv/bin/invoke" # hints name what works in the reader's shell
cd "$1"
percore init --env local
tasks=$(if [ -f percore_tasks.py ]; then echo percore_tasks; else echo tasks; fi)
exec invoke -c "$tasks" deploy --env local
