#!/usr/bin/env bash
# Writes the three lock files from pyproject.toml: exact versions, with hashes, naming no index and no host.
# Run by `make lock`; arguments go to pip-compile (`scripts/lock.sh --upgrade`).
# The oldest supported Python resolves, so that nothing is left out that only it needs.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-.venv/bin/python}
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || {
    echo "lock: needs Python 3.11, the oldest supported one, with pip-tools (PYTHON=… names another)" >&2
    exit 1
}
inputs=$(mktemp -d)
trap 'rm -rf "$inputs"' EXIT

# pip-compile cannot read dependency groups; these lines can.
"$python" - "$inputs" <<'PYTHON'
import pathlib, sys, tomllib

project = tomllib.loads(pathlib.Path("pyproject.toml").read_text())
groups = project["dependency-groups"]


def flat(name):
    for item in groups[name]:
        yield from flat(item["include-group"]) if isinstance(item, dict) else (item,)


runtime = project["project"]["dependencies"]
for name, lines in {
    "run": [*runtime, *flat("build")],
    "dev": [*runtime, *flat("dev")],
    "node": list(flat("node")),
}.items():
    pathlib.Path(sys.argv[1], f"{name}.in").write_text("\n".join(lines) + "\n")
PYTHON

compile() { # name of the input, lock file, further arguments
    local name=$1 out=$2
    shift 2
    CUSTOM_COMPILE_COMMAND="make lock" "$python" -m piptools compile --quiet --generate-hashes --allow-unsafe \
        --strip-extras --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options \
        --no-annotate --output-file "$out" "$@" "$inputs/$name.in" >/dev/null
    echo "lock: $out"
}
compile run requirements.lock "$@"
compile dev requirements-dev.lock --constraint requirements.lock "$@"
compile node requirements-node.lock "$@"
