#!/bin/bash
# Runs a prompt to its end, prints its result, and ends with 0 if it succeeded.
#
#     PILOTHOUSE_URL=http://127.0.0.1:8420 PILOTHOUSE_API_KEY=ph_... examples/invoke.sh "Fix the failing test"
#
# It tries again where a connection breaks or the server is busy: the same key never starts a second job, and whoever
# comes back waits for the first one. With an IDEMPOTENCY_KEY of yours that holds for this script too: start it again
# with the same one after a crash, and the prompt does not run twice. Needs curl and python3.
set -euo pipefail

if [ -z "${1:-}" ]; then
    echo "Say what is to be done: invoke.sh PROMPT" >&2
    exit 2
fi
for name in PILOTHOUSE_URL PILOTHOUSE_API_KEY; do
    if [ -z "${!name:-}" ]; then
        echo "$name is not set." >&2
        exit 2
    fi
done

key=${IDEMPOTENCY_KEY:-$(python3 -c 'import uuid; print(uuid.uuid4())')}
answer=$(mktemp)
trap 'rm -f "$answer"' EXIT

# To a file: of several tries it has the last one's answer alone. Who is told to come back later than
# --retry-max-time allows, as after the last job of a day, does not wait for that. The API key is in no command line,
# which everybody on the machine could read.
python3 -c '
import json, sys
print(json.dumps({"prompt": sys.argv[1], "permission_mode": "acceptAll", "timeout_s": 900}))' "$1" |
    curl -sS --retry 5 --retry-all-errors --retry-max-time 1000 --max-time 1000 -X POST "${PILOTHOUSE_URL%/}/invoke" \
        -H @<(printf 'x-api-key: %s' "$PILOTHOUSE_API_KEY") -H "idempotency-key: $key" -H 'content-type: application/json' \
        -d @- -o "$answer" || {
    echo "The job may have begun: IDEMPOTENCY_KEY=$key asks about the same one." >&2
    exit 1
}
python3 -c '
import json, sys
answer = json.load(open(sys.argv[1]))
if "output" not in answer:
    sys.exit(answer["detail"])
print(answer["output"]["result"])
sys.exit(0 if answer["output"]["success"] else 1)' "$answer"
