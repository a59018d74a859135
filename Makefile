# The same few commands everywhere; CI runs exactly `make check` and `make test`.
# Needs python3 >= 3.11 with venv, git, make and the network to PyPI and npm. Node is the system's, or a wheel from PyPI.
#
# What is done is remembered by stamp files below .make/, each made by one script. A target runs again when a file it
# is made from is newer; with fresh stamps `make run` starts neither pip nor npm.

PYTHON ?= python3
# Further arguments: make run ARGS="--port 9000", make test PYTEST_ARGS="tests/core -x"
ARGS ?=
PYTEST_ARGS ?=
FAULTS ?= 60
MINUTES ?= 30
BENCH ?= $(wildcard bench/*.py)

comma := ,
BIN := .venv/bin
STAMPS := .make
PAGE := src/pilothouse/web/static/index.html
PAGE_SOURCES := $(shell find frontend protocol -type f -not -path '*/node_modules/*' -not -path '*/.vite/*' \
	-not -name '*.tsbuildinfo' -not -name '*.md' 2>/dev/null)

export PYTHON
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# A proxy of the user's must not stand between tests and 127.0.0.1.
export NO_PROXY := $(if $(NO_PROXY),$(NO_PROXY)$(comma))127.0.0.1,localhost,::1
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help setup run test test-page test-python check bench faults fuzz fuzz-api storm wheel lock clean \
	check-style check-types check-imports check-lint check-page check-hosts

help: ## shows this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(STAMPS)/run $(PAGE) ## starts the server and prints the link (ARGS="--port 9000")
	@exec $(BIN)/pilothouse serve $(ARGS)

setup: $(STAMPS)/dev $(PAGE) ## installs everything needed to develop and test

# Each of the slow ones keeps one processor busy, so two go at a time, those that install included; what they say is not
# mixed where make can help it. The slowest goes first.
TWO := $(MAKE) --no-print-directory -j 2 $(if $(filter output-sync,$(.FEATURES)),-Otarget)

check: ## linters, types, import directions
	@+$(TWO) check-hosts check-types check-lint check-style check-page check-imports

test: ## front end tests, then pytest (PYTEST_ARGS="tests/core")
	@+$(TWO) setup $(STAMPS)/system $(STAMPS)/clients
	@scripts/test.sh $(PYTEST_ARGS)

bench: setup ## runs the benchmarks (BENCH=bench/terminals.py ARGS=--quick)
	@test -n "$(BENCH)" || { echo "bench: no benchmark in bench/" >&2; exit 1; }
	@set -e; for file in $(BENCH); do echo "== $$file"; $(BIN)/python "$$file" $(ARGS); done

faults: setup $(STAMPS)/system ## kills, hangs and breaks the real programs, and checks the promises (FAULTS=1000 ARGS="--seed 7")
	@$(BIN)/python -m tests.faults --count $(FAULTS) $(ARGS)

fuzz: setup ## says whatever can be said to the event API, and looks at what it does (MINUTES=30 ARGS="--seed 7")
	@$(BIN)/python -m tests.fuzz --minutes $(MINUTES) $(ARGS)

fuzz-api: setup $(STAMPS)/system ## asks the HTTP API whatever its document allows, and what it forbids (MINUTES=10 ARGS="--seed 7")
	@$(BIN)/python -m tests.schema --minutes $(MINUTES) $(ARGS)

storm: setup $(STAMPS)/system ## subscribers of the event API, cut and killed, compared to the last byte (ARGS="--restart")
	@$(BIN)/python -m tests.storm $(ARGS)

wheel: $(STAMPS)/dev $(PAGE) ## builds wheel and sdist with the front end in them into dist/
	@$(BIN)/python -m build --no-isolation --outdir dist

lock: $(STAMPS)/dev ## resolves the Python dependencies anew (ARGS=--upgrade)
	@PYTHON=$(BIN)/python scripts/lock.sh $(ARGS)

clean: ## removes everything that make has made
	rm -rf .venv $(STAMPS) frontend/node_modules tests/clients/node_modules src/pilothouse/web/static dist build

check-hosts:
	@scripts/check-hosts.sh

check-style: $(STAMPS)/dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

check-imports: $(STAMPS)/dev
	@$(BIN)/lint-imports

check-types: $(STAMPS)/dev
	@$(BIN)/mypy

check-lint: $(STAMPS)/page
	@scripts/page.sh lint

check-page: $(STAMPS)/page
	@scripts/page.sh types

$(STAMPS)/run: requirements.lock pyproject.toml scripts/python.sh
	@scripts/python.sh run

$(STAMPS)/dev: requirements.lock requirements-dev.lock pyproject.toml scripts/python.sh
	@scripts/python.sh dev

$(STAMPS)/system: scripts/system.sh
	@scripts/system.sh

$(STAMPS)/clients: tests/clients/package.json tests/clients/package-lock.json requirements-node.lock scripts/page.sh
	@scripts/page.sh clients

# node_modules as the lock file says; the page itself depends on it only by content.
$(STAMPS)/page: $(wildcard frontend/package.json frontend/package-lock.json) requirements-node.lock scripts/page.sh
	@scripts/page.sh install

$(PAGE): $(STAMPS)/page $(PAGE_SOURCES)
	@scripts/page.sh build
