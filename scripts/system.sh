#!/usr/bin/env bash
# What the tests need from the system: Chromium and libatomic (tests of the page in a browser), curl (used in sessions),
# vim (run in shells), openssl, nginx and Caddy (tests of TLS and of a proxy in front). Installed where that is allowed, as root with apt; elsewhere
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
command -v vim.tiny >/dev/null || command -v vim.basic >/dev/null || missing+=(vim-tiny)
unpacked=()
for proxy in nginx caddy; do
    PATH=$PATH:/usr/sbin command -v $proxy >/dev/null || [ -x .make/$proxy ] || unpacked+=($proxy)
done

# Installed, these would begin to serve port 80 of whoever runs the tests; the one file of each is enough.
unpack() {
    rm -rf .make/unpacked && mkdir .make/unpacked &&
        (cd .make/unpacked && apt-get -qq download "$@" && for file in *.deb; do dpkg-deb -x "$file" . || exit; done &&
            for name in "$@"; do mv usr/*bin/"$name" ../ || exit; done) &&
        rm -rf .make/unpacked
}

# Another apt-get may be at work, as on a machine that has just started.
update() {
    for _ in $(seq 60); do
        apt-get -qq update && return
        tail -n 3 .make/system.log | grep -q 'get lock' || return
        sleep 2
    done
    return 1
}

if [ $((${#missing[@]} + ${#unpacked[@]})) -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "test: apt-get install ${missing[*]-}${unpacked[*]:+ (unpacked: ${unpacked[*]})}"
        export DEBIAN_FRONTEND=noninteractive
        {
            update &&
                { [ ${#missing[@]} -eq 0 ] || apt-get -qq -y -o DPkg::Lock::Timeout=120 --no-install-recommends install "${missing[@]}"; } &&
                { [ ${#unpacked[@]} -eq 0 ] || unpack "${unpacked[@]}"; }
        } >.make/system.log 2>&1 </dev/null || {
            tail -n 20 .make/system.log >&2
            echo "test: apt-get could not install ${missing[*]-} ${unpacked[*]-}; tests that need it will skip" >&2
            exit 0 # no stamp: the next run tries again
        }
    else
        missing+=("${unpacked[@]}")
        echo "test: missing ${missing[*]} (Debian: apt install ${missing[*]}); tests that need it will skip"
        exit 0
    fi
fi
touch .make/system
