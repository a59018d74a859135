#!/usr/bin/env bash
# What the tests need from the system: Chromium and libatomic (tests of the page in a browser), curl (used in sessions). Installed where that is allowed, as
# root with apt; elsewhere those tests skip and name the package. Leaves the stamp .make/system.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p .make

missing=()
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null ||
    missing+=(chromium)
command -v curl >/dev/null || missing+=(curl)
PATH=$PATH:/sbin:/usr/sbin ldconfig -p | grep -q libatomic.so.1 || missing+=(libatomic1)

if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "test: apt-get install ${missing[*]}"
        export DEBIAN_FRONTEND=noninteractive
        {
            apt-get -qq update
            apt-get -qq -y --no-install-recommends install "${missing[@]}"
        } >.make/system.log 2>&1 </dev/null || {
            tail -n 20 .make/system.log >&2
            echo "test: apt-get could not install ${missing[*]}; tests that need it will skip" >&2
            exit 0 # no stamp: the next run tries again
        }
    else
        echo "test: missing ${missing[*]} (Debian: apt install ${missing[*]}); tests that need it will skip"
        exit 0
    fi
fi
touch .make/system
