#!/bin/sh
# Create an empty .venv with the first of the named Pythons that is supported.
# usage: tools/create_venv.sh PYTHON...
set -eu
cd "$(dirname "$0")/.."

mark=.venv/created-by-make
if [ -e .venv ] && [ ! -e "$mark" ]; then
    echo ".venv exists, but make did not create it. Move or delete it, then run make again." >&2
    exit 1
fi

# setup.cfg has the supported versions: python_requires = >=3.LOW,<3.END
range=$(sed -n 's/^python_requires = >=3\.\([0-9]*\),<3\.\([0-9]*\)$/\1 \2/p' setup.cfg)
low=${range% *} end=${range#* }
check="
import sys
if not (3, $low) <= sys.version_info[:2] < (3, $end):
    sys.exit('is Python ' + sys.version.split()[0])
import ensurepip, venv
"

# A version manager may provide a command that does not run, so each candidate is started.
reasons=
for python in "$@"; do
    if reason=$("$python" -c "$check" 2>&1); then
        echo "==> Creating .venv with $("$python" --version)"
        mkdir -p .venv
        touch "$mark"
        find .venv -mindepth 1 ! -path "$mark" -delete
        exec "$python" -m venv .venv
    fi
    reasons="$reasons
    $python: $(echo "$reason" | tail -n 1)"
done

last=$((end - 1))
cat >&2 <<EOT
No usable Python. Needed: 3.$low to 3.$last with the modules venv and ensurepip. Tried:$reasons
Install one:
    Debian, Ubuntu:  sudo apt install python3.$last python3.$last-venv
    Fedora, RHEL:    sudo dnf install python3.$last
    macOS:           brew install python@3.$last
or name one:  make PYTHON=/path/to/python3.$last ...
EOT
exit 1
