#!/usr/bin/env bash
# Proof that a bare machine is enough: makes a minimal Debian 12 tree with only python3, python3-venv, git, make and
# ca-certificates, clones this repository's HEAD into it and runs `make run` there until the link is printed, twice.
#
#   sudo scripts/minimal-debian.sh [--user] [--job] [--test] [--cache FILE] [--keep]
#     --user   as a plain user instead of root
#     --job    then one job of the demo model through `pilothouse run --json`, in a bubblewrap session
#     --test   then `make test`
#     --cache FILE   the bare tree as a tar: taken if it is there, else written
#     --keep   leaves the tree in place and says where
#
# Needs root and debootstrap. The tree runs in mount and pid namespaces of its own, entered with pivot_root: in a plain
# chroot the kernel refuses user namespaces, and with them bubblewrap. The network is this machine's, and so are the
# settings of pip, npm and apt, certificates and proxy variables: bound read-only while it runs, never copied.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

user=root job='' test='' keep='' cache=''
while [ $# -gt 0 ]; do
    case $1 in
    --cache) cache=$2 && shift ;;
    --user) user=pilot ;;
    --job) job=1 ;;
    --test) test=1 ;;
    --keep) keep=1 ;;
    *) sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//' && exit 2 ;;
    esac
    shift
done
fail() {
    echo "minimal-debian: $*" >&2
    exit 1
}
[ "$(id -u)" = 0 ] || fail "needs root"
command -v debootstrap >/dev/null || fail "needs debootstrap (apt install debootstrap)"

base=$(mktemp -d "${TMPDIR:-/tmp}/pilothouse-debian.XXXXXX")
tree=$base/tree
finish() { # every mount is in the namespace, which is gone by now
    [ -z "$keep" ] || echo "minimal-debian: the tree is $tree"
    [ -n "$keep" ] || rm -rf --one-file-system "$base"
}
trap finish EXIT
trap 'exit 130' INT TERM

# The archive this machine's apt uses for Debian itself, if there is one; else debootstrap's own default.
mirror=${DEBIAN_MIRROR:-$(
    cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
        grep -E '^(URIs:|deb )' | grep -oE '(https?|file)://[^ ]+/debian/?( |$)' | head -n 1 | tr -d ' ' || true
)}
started=$SECONDS
if [ -f "$cache" ]; then
    mkdir "$tree"
    tar -C "$tree" --numeric-owner -xpf "$cache"
else
    echo "minimal-debian: debootstrap into $tree"
    # shellcheck disable=SC2086 # no mirror is no argument
    debootstrap --variant=minbase --include=python3,python3-venv,git,make,ca-certificates bookworm "$tree" $mirror \
        >"$base/debootstrap.log" 2>&1 || { tail -n 20 "$base/debootstrap.log" >&2 && fail "debootstrap failed"; }
    [ -z "$cache" ] || tar -C "$tree" --numeric-owner -cpf "$cache" .
fi
echo "minimal-debian: $(chroot "$tree" dpkg-query -f '.\n' -W | wc -l) packages, $((SECONDS - started)) s"

home=/root
[ "$user" = root ] || home=/home/$user
[ "$user" = root ] || chroot "$tree" useradd --create-home --shell /bin/bash "$user"
git clone --quiet --no-local "$root" "$tree$home/pilothouse"
chroot "$tree" chown -R "$user:" "$home/pilothouse"

# Files and directories that this machine's pip, npm, apt and TLS settings consist of or point at, if there are any.
settings() {
    local path
    for path in /etc/pip.conf /etc/xdg/pip /etc/npmrc /etc/resolv.conf /etc/hosts /etc/ssl/certs \
        /usr/share/ca-certificates /usr/local/share/ca-certificates /usr/share/keyrings \
        /etc/apt/sources.list /etc/apt/sources.list.d /etc/apt/auth.conf /etc/apt/auth.conf.d /etc/apt/apt.conf \
        /etc/apt/apt.conf.d /etc/apt/keyrings /etc/apt/trusted.gpg.d /etc/apt/preferences.d; do
        echo "$path $path"
    done
    for path in .config/pip .pip .npmrc; do echo "$HOME/$path $home/$path"; done
    # Local paths named by variables and by pip's configuration (certificates, directories of wheels).
    { env | grep -E "^($variables)=" | cut -d= -f2-; python3 -m pip config list; } 2>/dev/null |
        grep -oE "(^|[ '=]|file://)/[^ '\"]+" | sed -E "s#^([ '=]|file://)##" | sort -u | while read -r path; do
        path=${path%/simple} # an index in a directory keeps its files beside the lists
        echo "$path $path"
    done
}
variables='PIP_[A-Z_]*|[a-z]*_proxy|[A-Z]*_PROXY|npm_config_[a-z_-]*|NPM_CONFIG_[A-Z_]*|NODE_EXTRA_CA_CERTS|SSL_CERT_FILE|SSL_CERT_DIR|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|GIT_SSL_CAINFO'
settings | while read -r source target; do
    [ ! -e "$source" ] || printf '%s\t%s\n' "$(realpath "$source")" "$target"
done | sort -u -t "$(printf '\t')" -k 2,2 >"$base/binds"
env -0 | grep -zE "^($variables)=" >"$base/environment" || true

cat >"$base/enter" <<'ENTER'
# Inside the new namespaces, still in the old root: mounts, then pivot_root.
set -eu
base=$1 user=$2 home=$3
tree=$base/tree
mount --bind "$tree" "$tree"
mount -t proc proc "$tree/proc"
mount --rbind /sys "$tree/sys"
mount -t tmpfs -o mode=755 tmpfs "$tree/dev"
mkdir "$tree/dev/pts" "$tree/dev/shm"
for node in null zero full random urandom tty; do
    touch "$tree/dev/$node"
    mount --bind "/dev/$node" "$tree/dev/$node"
done
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$tree/dev/pts"
ln -s pts/ptmx "$tree/dev/ptmx"
ln -s /proc/self/fd "$tree/dev/fd"
for n in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${n%%:*}" "$tree/dev/${n#*:}"; done
mount -t tmpfs -o mode=1777 tmpfs "$tree/dev/shm"
mount -t tmpfs -o mode=755 tmpfs "$tree/run"
while IFS="$(printf '\t')" read -r source target; do
    if [ -d "$source" ]; then mkdir -p "$tree$target"; else
        mkdir -p "$(dirname "$tree$target")"
        [ -e "$tree$target" ] || touch "$tree$target"
    fi
    mount --bind "$source" "$tree$target"
    mount -o remount,bind,ro "$tree$target"
done <"$base/binds"
touch "$tree/run/environment" "$tree/run/proof"
mount --bind "$base/environment" "$tree/run/environment"
mount --bind "$base/proof" "$tree/run/proof"
cd "$tree"
mkdir -p .old
pivot_root . .old
umount -l /.old
rmdir /.old
cd "$home/pilothouse"
set -- HOME="$home" USER="$user" LOGNAME="$user" PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 TERM=dumb
[ "$user" = root ] || set -- setpriv --reuid "$user" --regid "$user" --init-groups env "$@"
exec env -i "$@" python3 /run/proof
ENTER

cat >"$base/proof" <<PROOF
JOB, TEST = bool("$job"), bool("$test")
PROOF
cat >>"$base/proof" <<'PROOF'
import os, re, signal, subprocess, sys, time, urllib.request

# This is process 1 of the tree, and as on any machine it takes in what others leave behind.
main = os.fork()
while main:
    pid, status = os.wait()
    if pid == main:
        sys.exit(abs(os.waitstatus_to_exitcode(status)))

env = dict(os.environ)
with open("/run/environment", "rb") as file:
    env.update(part.decode().split("=", 1) for part in file.read().split(b"\0") if part)
ARGS = ["make", "run", "ARGS=--port 0"]


def start(name):
    begun = time.monotonic()
    server = subprocess.Popen(ARGS, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, start_new_session=True)
    for line in server.stdout:
        found = re.search(r"https?://\S+#ticket=", line)
        print("  |", re.sub(r"ticket=\S+", "ticket=…", line.rstrip()), flush=True)
        if found:
            took = time.monotonic() - begun
            url = found.group().split("/#")[0]
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url + "/", timeout=10) as page:
                assert b"<div id=" in page.read(), "no page"
            print(f"minimal-debian: {name} start: the link after {took:.1f} s", flush=True)
            return server, took
    sys.exit(f"minimal-debian: make run ended with {server.wait()} before it printed a link")


def stop(server):
    os.killpg(server.pid, signal.SIGTERM)
    try:
        server.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        sys.exit("minimal-debian: the server did not stop within 30 s")


stop(start("first")[0])
server, took = start("second")
if JOB:
    out = subprocess.run([".venv/bin/pilothouse", "run", "--json", "--permission-mode", "acceptAll", "Write a small program and run it"],
                         env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=300)
    lines = out.stdout.splitlines()
    print(f"minimal-debian: pilothouse run: exit {out.returncode}, {len(lines)} events; last: {lines[-1][:300] if lines else '-'}", flush=True)
    if out.returncode:
        sys.exit("minimal-debian: the job failed")
stop(server)
if took > 3:
    sys.exit("minimal-debian: the second start took more than 3 s")
if TEST:
    begun = time.monotonic()
    code = subprocess.run(["make", "test"], env=env, stdin=subprocess.DEVNULL).returncode
    print(f"minimal-debian: make test: exit {code} after {time.monotonic() - begun:.0f} s", flush=True)
    sys.exit(code)
PROOF

unshare --mount --pid --ipc --uts --fork --kill-child --propagation private \
    sh "$base/enter" "$base" "$user" "$home"
