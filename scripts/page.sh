#!/usr/bin/env bash
# The front end: `page.sh install` (node_modules), `build` (into the package), `lint`, `types`, `test`; and `clients`,
# programs of others that only the tests need (tests/clients).
# Node is the system's if it is new enough, else the wheel from PyPI in an environment of its own, .make/node.
set -euo pipefail
cd "$(dirname "$0")/.."

root=$PWD
step=$1
mkdir -p .make
exec 8>.make/page.lock
flock 8 2>/dev/null || true

fail() {
    echo "page: $*" >&2
    exit 1
}
# npm 10 and older skip the native parts of the bundler when the lock file was made on another platform.
usable() {
    command -v node >/dev/null && command -v npm >/dev/null &&
        node -e 'const [a, b] = process.versions.node.split(".").map(Number);
            process.exit((a === 20 && b >= 19) || (a === 22 && b >= 12) || a > 22 ? 0 : 1)' &&
        [ "$(npm --version | cut -d. -f1)" -ge "${NPM_MIN:-11}" ]
}
find_node() {
    if [ -z "${PILOTHOUSE_NODE_WHEEL:-}" ] && usable; then return; fi
    if [ ! -x .make/node/bin/npm ] || [ requirements-node.lock -nt .make/node/done ]; then
        echo "page: no Node >= 20.19 with npm >= 11 here; taking the wheel from PyPI into .make/node"
        rm -rf .make/node
        "${PYTHON:-python3}" -m venv .make/node
        .make/node/bin/python -m pip -qq --no-input --disable-pip-version-check install --require-hashes \
            -r requirements-node.lock || fail "pip could not install requirements-node.lock"
        touch .make/node/done
    fi
    export PATH="$root/.make/node/bin:$PATH"
}
npm_install() { # a folder
    echo "page: npm ci in $1"
    (cd "$1" && npm ci --no-audit --no-fund --loglevel=error) || fail "npm ci failed (is the npm registry reachable?)"
}

# Somebody else may have finished while we waited for the lock.
newer() { # a stamp, then what it is made from
    local stamp=$1
    shift
    [ -e "$stamp" ] && [ -z "$(find "$@" -type f -newer "$stamp" -not -path '*/node_modules/*' -not -name '*.tsbuildinfo' -print -quit)" ]
}

[ -f frontend/package-lock.json ] || fail "frontend/package-lock.json is missing"
page=src/pilothouse/web/static/index.html
case $step in
install) if newer .make/page frontend/package.json frontend/package-lock.json requirements-node.lock "$0"; then exit 0; fi ;;
clients) if newer .make/clients tests/clients/package.json tests/clients/package-lock.json requirements-node.lock "$0"; then exit 0; fi ;;
build) if newer "$page" frontend protocol .make/page; then exit 0; fi ;;
esac
find_node
case $step in
lint | types | test) exec 8>&- ;; # they write nothing that another step reads: two may go at once
esac
case $step in
install)
    npm_install frontend
    touch .make/page
    ;;
clients)
    npm_install tests/clients
    touch .make/clients
    ;;
build)
    echo "page: building"
    (cd frontend && node_modules/.bin/vite build --logLevel warn >"$root/.make/page.log" 2>&1) || {
        cat .make/page.log >&2
        fail "the build failed"
    }
    [ -f "$page" ] || fail "the build left no $page"
    touch "$page"
    ;;
lint)
    (cd frontend && npm run --silent lint)
    ;;
types)
    (cd frontend && npm run --silent typecheck)
    ;;
test)
    (cd frontend && npm run --silent test)
    ;;
*)
    fail "unknown step $step"
    ;;
esac
