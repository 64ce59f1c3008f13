PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS := constraints.txt
# What is installed, and one stamp for each: whoever only runs the service needs the least of it.
# All are made anew whenever what the project needs has changed.
READY := $(VENV)/.ready
TEST_READY := $(VENV)/.ready-test
BENCH_READY := $(VENV)/.ready-bench
INSTALL := PIP_CONSTRAINT=$(CONSTRAINTS) $(BIN)/python -m pip install --quiet \
	--disable-pip-version-check --editable
# Three on two cores: much of a test is waiting for disks and for processes to start.
PYTEST := $(BIN)/python -m pytest --numprocesses 3 --dist worksteal
# The versions that pyproject.toml declares.
PYTHONS := $(shell sed -n 's/^    "Programming Language :: Python :: \(3\.[0-9]*\)",$$/\1/p' pyproject.toml)
# A little of everything, and all that meets what is installed beside the service.
CORE := $(foreach name, architecture batching connections content_polls content_votes forms gunicorn \
	hostile_forms idempotency limits logs malformed_http metrics openapi packaging poll_sessions \
	poll_submissions polls schema_fields shown startup tokens_http traces transactions workers, \
	$(wildcard tests/*/test_$(name).py))

.DEFAULT_GOAL := help
.PHONY: help run test test-core test-lowest test-pythons test-image soak fuzz lint bench image \
	format constraints clean

# make test ENGINE=secantus
ifdef ENGINE
test test-core soak: export POLLS_ENGINE := $(ENGINE)
endif

help: ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

run: $(READY) ## serve on 127.0.0.1:8080, with the embedded store in ./data unless MONGODB_URI is set
	@exec $(BIN)/python -m service

test: $(TEST_READY) ## the whole test suite; ENGINE=secantus: not on a mongod, but on the stand-in
	$(PYTEST) $(ARGS)

test-core: $(TEST_READY) ## a cross-section of the suite, in two to three minutes
	$(PYTEST) $(ARGS) $(CORE)

test-lowest: .venv-lowest.txt ## the cross-section on the lowest versions that are declared
	@$(MAKE) --no-print-directory test-core VENV=.venv-lowest CONSTRAINTS=$<

test-pythons: ## the cross-section on each Python that is declared, where it is installed
	@for version in $(PYTHONS); do \
		python=$$(.ci/python $$version) || continue; \
		echo "Python $$version: $$python"; \
		$(MAKE) --no-print-directory test-core VENV=.venv-$$version PYTHON=$$python || exit 1; \
	done

soak: $(TEST_READY) ## races, kills and faults in full: 10 minutes on a quiet machine, else longer
	$(BIN)/python -m pytest tests/long --timeout 1800 --durations 0 $(ARGS)

fuzz: $(TEST_READY) ## whatever the OpenAPI document allows and forbids, for 10 minutes; ARGS='--max-time 60'
	$(BIN)/python -m tests.fuzzing $(ARGS)

lint: $(BENCH_READY) ## formatting, lint, strict types: code, tests and bench
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(BENCH_READY) ## speed beside others that do the same work, 25 minutes; ARGS=--quick: 6
	@command -v wrk > /dev/null || { \
		echo "wrk is needed to make load, and is not installed: apt-get install wrk"; exit 1; }
	@exec $(BIN)/python -m bench $(ARGS)

image: ## a container image, polls-service, by docker, podman or buildah: the first that works
	@for engine in docker podman buildah; do \
		if $$engine info > /dev/null 2>&1; then \
			exec env BUILDAH_FORMAT=docker $$engine build --tag polls-service $(ARGS) .; \
		fi; \
	done; \
	echo "An image needs docker, podman or buildah, and none of them works here."; exit 1

test-image: $(TEST_READY) ## the image, built on a base made by debootstrap, and run: as root on Debian
	$(BIN)/python -m pytest tests/image $(ARGS)

format: $(TEST_READY) ## put the code into its one format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# On x86-64 Linux and the oldest Python that is declared, which need all that the others do.
constraints: ## renew constraints.txt: the newest of all that pyproject.toml admits
	$(PYTHON) -m venv --clear .venv-constraints
	.venv-constraints/bin/python -m pip install --quiet --upgrade \
		--editable '.[embedded,speed,tracing,dev,bench]'
	.venv-constraints/bin/python -m pip list --format freeze --exclude pip \
		--exclude polls-service | LC_ALL=C sort --ignore-case > .venv-constraints/pins
	mv .venv-constraints/pins $(CONSTRAINTS)
	rm -rf .venv-constraints

clean: ## remove the virtual environments and all caches; never ./data
	rm -rf .venv* .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info \
		bench/contenders/fastify/node_modules

$(READY): pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(INSTALL) '.[embedded,speed]'
	@touch $@

$(TEST_READY): $(READY)
	$(INSTALL) '.[embedded,speed,tracing,dev]'
	@touch $@

$(BENCH_READY): $(TEST_READY)
	$(INSTALL) '.[embedded,speed,tracing,dev,bench]'
	@touch $@

.venv-lowest.txt: pyproject.toml constraints.txt tests/support/lowest.py
	$(PYTHON) -m tests.support.lowest > $@.new
	mv $@.new $@
