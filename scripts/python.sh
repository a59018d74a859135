#!/usr/bin/env bash
# Makes .venv with the pinned dependencies and this package in it: `python.sh run` or `python.sh dev`.
# Leaves the stamps .make/run and .make/dev. Safe to run twice at the same time: the second waits.
set -euo pipefail
cd "$(dirname "$0")/.."

kind=$1
python=${PYTHON:-python3}
mkdir -p .make
exec 9>.make/python.lock
flock 9 2>/dev/null || true # no flock outside Linux: then two runs at once are the user's business

fail() {
    echo "setup: $*" >&2
    exit 1
}
# Somebody else may have finished while we waited for the lock.
fresh() { [ -e ".make/$kind" ] && [ -z "$(find pyproject.toml requirements.lock requirements-dev.lock "$0" -newer ".make/$kind")" ]; }
if fresh && [ "$(cat .make/place 2>/dev/null)" = "$PWD" ]; then exit 0; fi

command -v "$python" >/dev/null || fail "$python is missing (Debian: apt install python3 python3-venv)"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$("$python" --version) is too old: 3.11 or newer is needed (PYTHON=… names another)"
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "$python has no venv module (Debian: apt install python3-venv)"

# An environment holds absolute paths and one interpreter: a moved checkout or another Python needs a new one.
version=$("$python" -c 'import sys; print(sys.version)')
if [ "$(cat .make/place 2>/dev/null)" != "$PWD" ] || [ "$(cat .make/version 2>/dev/null)" != "$version" ] ||
    ! .venv/bin/python -c pass 2>/dev/null; then
    echo "setup: making .venv with $("$python" --version)"
    rm -rf .venv .make/run .make/dev
    "$python" -m venv .venv || fail "could not make .venv"
    printf '%s\n' "$PWD" >.make/place
    printf '%s\n' "$version" >.make/version
fi

lock=requirements.lock
[ "$kind" = run ] || lock=requirements-dev.lock
echo "setup: installing $lock"
pip() { .venv/bin/python -m pip -qq --no-input --disable-pip-version-check "$@"; }
pip install --require-hashes -r "$lock" || fail "pip could not install $lock (is the package index reachable?)"
# What builds the package is in the lock file too, so this step fetches nothing.
pip install --no-deps --no-build-isolation --no-index -e .

touch .make/run
[ "$kind" = run ] || touch .make/dev
