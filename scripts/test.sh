#!/usr/bin/env bash
# Front end tests, then pytest with the given arguments. Both run even if the first fails; pytest's summary comes last.
set -uo pipefail
cd "$(dirname "$0")/.."

# The tests must not find a user's own settings or credentials.
while read -r name; do unset "$name"; done < <(compgen -e | grep -E '^(PILOTHOUSE|ANTHROPIC|AWS|CLAUDE)_' |
    grep -vE '^(PILOTHOUSE_TEST_|AWS_CA_BUNDLE$)')
# Pytest rewrites each file's assertions before it is first imported, which is half of the time of a collection, and
# every worker of a fresh clone would do it for all files. One process does it once, while node has the other processor.
# What it has to say against a file, the run below says.
unset PYTHONDONTWRITEBYTECODE
.venv/bin/python -m pytest --collect-only -q "$@" >/dev/null 2>&1 &
collected=$!
page=0
scripts/page.sh test || page=$?
[ "$page" = 0 ] || echo "test: the front end's tests FAILED (above)"
wait "$collected"
# Most of what the tests do is to wait for programs, so there are twice as many workers as processors; more than eight
# would only need memory. Who has none left takes some of another's: the slow ones stand together.
workers=$(($(nproc) * 2))
.venv/bin/python -m pytest -n $((workers < 8 ? workers : 8)) --dist worksteal "$@"
python=$?
[ "$python" = 0 ] && exit "$page"
exit "$python"
