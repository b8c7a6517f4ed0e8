# Set-up and checks. `make serve` and `make test` are all that a fresh machine needs.

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := scripts/retry $(BIN)/python -m pip --disable-pip-version-check --quiet install
export NPM_CONFIG_UPDATE_NOTIFIER := false

.DEFAULT_GOAL := help
.PHONY: help serve test check bench profile debian servers clean
.DELETE_ON_ERROR:

help:  ## say what there is
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "make %-7s %s\n", $$1, $$2 }'

serve: $(VENV)/.serve  ## run the gateway; ARGS="--config FILE" are handed on
	$(BIN)/assetgate $(ARGS) serve

test: debian $(VENV)/.test servers check  ## run every check and the tests; ARGS are pytest's
	$(BIN)/pytest --numprocesses 2 --dist worksteal $(ARGS)

check: $(VENV)/.test  ## run the checks that need no server
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.test  ## measure against peers started in the same run
	@scripts/debian nginx-light wrk
	$(BIN)/python -m benchmarks.table $(ARGS)

profile: $(VENV)/.test  ## sample a gateway under load, and write down its hottest lines
	@scripts/debian nginx-light wrk
	@test -x $(BIN)/py-spy || $(PIP) py-spy
	$(BIN)/python -m benchmarks.profiling $(ARGS)

debian:
	@scripts/debian ffmpeg chromium nginx-light curl npm radosgw ceph-mon ceph-osd pgbouncer

servers: .servers/swift/.stamp .servers/d1/.stamp

clean:  ## remove what the targets above have installed
	rm -rf $(VENV) .servers

# The stamps make a second run instant; a changed pyproject.toml installs anew.
$(VENV)/bin/python:
	@scripts/debian python3-venv
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: PYTHON=python3.x")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.serve: pyproject.toml | $(VENV)/bin/python
	$(PIP) --editable '.[s3,postgres]'
	@touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/bin/python
	$(PIP) --editable '.[s3,postgres,test]'
	@touch $@ $(VENV)/.serve

# Swift brings eventlet, which patches the standard library: it gets an environment of its own.
.servers/swift/.stamp: | $(VENV)/bin/python
	$(BIN)/python -m venv .servers/swift
	scripts/retry .servers/swift/bin/python -m pip --disable-pip-version-check --quiet install 'swift>=2.38'
	@touch $@

.servers/d1/.stamp: | debian
	mkdir -p .servers/d1
	scripts/retry npm install --prefix .servers/d1 --no-package-lock --no-audit --no-fund --loglevel=error miniflare@4
	@touch $@
