#!/bin/sh
# Create a virtual environment: tools/create_venv.sh FOLDER [PYTHON]
# It first checks what is missing and says how to install it. Without PYTHON, it looks for a suitable
# Python.
set -eu
folder=$1
wanted=${2:-}

suitable() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
fail() { printf '%s\n' "$@" >&2; exit 1; }

if [ -n "$wanted" ]; then set -- "$wanted"; else set -- python3 python3.13 python3.12 python3.11; fi
python=
for candidate; do
  if suitable "$candidate"; then python=$candidate; break; fi
done
[ -n "$python" ] || fail \
  "No Python 3.11 or newer was found${wanted:+: $wanted is older or cannot be run}." \
  "Install one (Debian 12, Ubuntu 24.04 or newer: apt-get install python3 python3-venv)," \
  "or name it: make PYTHON=/path/to/python3 ..."

if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  package=python$version-venv
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing $package with apt-get, to create a virtual environment."
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
      --no-install-recommends "$package" >/dev/null
  else
    fail "$python cannot create virtual environments. On Debian or Ubuntu: apt-get install $package"
  fi
fi

available=$(df -Pk . | awk 'NR == 2 { print int($4 / 1048576) }')
echo "Creating $folder with $("$python" -V 2>&1). pip now downloads the packages once." \
  "They need 1 GiB of disk space for the demo, or 3 GiB for the tests."
[ "$available" -ge 5 ] || echo "Only $available GiB of disk space is free here; 5 GiB is recommended."
"$python" -m venv "$folder"
