#!/usr/bin/env bash
# No committed file may say where packages come from: that is each machine's own setting, and a lock file that names a
# host works only beside that host. Ends with 1 and the lines that do.
set -euo pipefail
cd "$(dirname "$0")/.."

found=0
report() {
    echo "$1" >&2
    found=1
}
tracked() { git ls-files -z -- "$@" | xargs -0 -r grep -nIE "$pattern" -- /dev/null | cut -c1-160 || true; }

pattern='https?://|file:/|(^|[[:space:]])(-i|-f|--(extra-)?index-url|--find-links|--trusted-host)'
lines=$(tracked '*requirements*.lock' '*requirements*.txt')
[ -z "$lines" ] || report "a Python lock file names a host or an index:
$lines"

pattern='"resolved":'
lines=$(tracked '*package-lock.json')
[ -z "$lines" ] || report "a package-lock.json names where packages were downloaded (npm config: omit-lockfile-registry-resolved=true):
$lines"

pattern='(index-url|find-links|registry)[[:space:]]*[=:][[:space:]]*"?(https?|file):|--(extra-)?index-url[ =]|--registry[ =]'
lines=$(tracked . ':!scripts/check-hosts.sh' ':!scripts/lock.sh')
[ -z "$lines" ] || report "a package index is named:
$lines"

pattern='.'
lines=$(git ls-files -- '*.npmrc' '*pip.conf' '.pypirc' '*/.pypirc')
for file in $lines; do
    ! grep -qE "^[[:space:]]*(([^=]*:)?registry|[^=]*index-url|find-links|[^=]*(_auth|[Tt]oken|password))[[:space:]]*=" "$file" || report "$file sets a package index or a credential"
done
exit $found
