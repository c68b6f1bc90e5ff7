#!/usr/bin/env bash
# Mangum's own suite with ApiHandler in its place: run.sh PYTHON [DIR], DIR an unpacked source
# distribution of the installed version of Mangum; without one, it is fetched.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
python="$1"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
suite="${2:-}"
if [ -z "$suite" ]; then
    version="$("$python" -c 'import importlib.metadata as m; print(m.version("mangum"))')"
    "$python" -m pip download --quiet --no-deps --no-binary mangum -d "$work" "mangum==$version"
    tar xzf "$work/mangum-$version.tar.gz" -C "$work"
    suite="$work/mangum-$version"
fi
"$python" -m pip install --quiet --no-deps --target "$work/extra" -r "$here/requirements.txt"
cd "$suite"
# Without our own settings and plugins: the suite is to be run as it is.
PYTHONPATH="$here:$work/extra" "$python" -m pytest -q -p plugin -p no:asyncio -p no:twolane \
    -p no:cacheprovider tests
