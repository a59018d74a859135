#!/usr/bin/env bash
# Front end tests, then pytest with the given arguments. Both run even if the first fails; pytest's summary comes last.
set -uo pipefail
cd "$(dirname "$0")/.."

page=0
scripts/page.sh test || page=$?
[ "$page" = 0 ] || echo "test: the front end's tests FAILED (above)"
# The tests must not find a user's own settings or credentials.
while read -r name; do unset "$name"; done < <(compgen -e | grep -E '^(PILOTHOUSE|ANTHROPIC|AWS|CLAUDE)_' |
    grep -vE '^(PILOTHOUSE_TEST_|AWS_CA_BUNDLE$)')
# Most of what the tests do is to wait for programs, so there are twice as many workers as processors; more than eight
# would only need memory. Who has none left takes some of another's: the slow ones stand together.
workers=$(($(nproc) * 2))
.venv/bin/python -m pytest -n $((workers < 8 ? workers : 8)) --dist worksteal "$@"
python=$?
[ "$python" = 0 ] && exit "$page"
exit "$python"
