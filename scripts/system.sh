#!/usr/bin/env bash
# What the tests need from the system: Chromium and libatomic (tests of the page in a browser), curl (used in sessions),
# openssl and nginx (tests of TLS and of a proxy in front). Installed where that is allowed, as root with apt; elsewhere
# those tests skip and name the package. Leaves the stamp .make/system.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p .make

missing=()
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null ||
    missing+=(chromium)
command -v curl >/dev/null || missing+=(curl)
PATH=$PATH:/sbin:/usr/sbin ldconfig -p | grep -q libatomic.so.1 || missing+=(libatomic1)
command -v openssl >/dev/null || missing+=(openssl)
PATH=$PATH:/usr/sbin command -v nginx >/dev/null || [ -x .make/nginx ] || unpacked=(nginx)

# Installed, nginx would begin to serve port 80 of whoever runs the tests; its one file is enough.
unpack() {
    rm -rf .make/unpacked && mkdir .make/unpacked &&
        (cd .make/unpacked && apt-get -qq download nginx && dpkg-deb -x nginx_*.deb . && mv usr/sbin/nginx ../nginx) &&
        rm -rf .make/unpacked
}

if [ ${#missing[@]} -gt 0 ] || [ -n "${unpacked[*]:-}" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "test: apt-get install ${missing[*]:-} ${unpacked[*]:+(unpacked: nginx)}"
        export DEBIAN_FRONTEND=noninteractive
        {
            apt-get -qq update &&
                { [ ${#missing[@]} -eq 0 ] || apt-get -qq -y --no-install-recommends install "${missing[@]}"; } &&
                { [ -z "${unpacked[*]:-}" ] || unpack; }
        } >.make/system.log 2>&1 </dev/null || {
            tail -n 20 .make/system.log >&2
            echo "test: apt-get could not install ${missing[*]:-nginx}; tests that need it will skip" >&2
            exit 0 # no stamp: the next run tries again
        }
    else
        missing+=("${unpacked[@]:-}")
        echo "test: missing ${missing[*]} (Debian: apt install ${missing[*]}); tests that need it will skip"
        exit 0
    fi
fi
touch .make/system
