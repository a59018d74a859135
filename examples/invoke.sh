#!/bin/bash
# Runs a prompt to its end, prints its result, and ends with 0 if it succeeded.
#
#     PILOTHOUSE_URL=http://127.0.0.1:8420 PILOTHOUSE_API_KEY=ph_... examples/invoke.sh "Fix the failing test"
#
# It tries again where a connection breaks or the server is busy: the same key never starts a second job, and whoever
# comes back waits for the first one. Needs curl and python3.
set -euo pipefail

key=${IDEMPOTENCY_KEY:-$(date +%s)-$$}
python3 -c '
import json, sys
print(json.dumps({"prompt": sys.argv[1], "permission_mode": "acceptAll", "timeout_s": 900}))' "$1" |
    curl -sS --retry 5 --retry-all-errors --max-time 1000 -X POST "$PILOTHOUSE_URL/invoke" \
        -H "x-api-key: $PILOTHOUSE_API_KEY" -H "idempotency-key: $key" -H 'content-type: application/json' -d @- |
    python3 -c '
import json, sys
answer = json.load(sys.stdin)
if "output" not in answer:
    sys.exit(answer["detail"])
print(answer["output"]["result"])
sys.exit(0 if answer["output"]["success"] else 1)'
