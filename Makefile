PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS := constraints.txt
# A stamp for each set of packages: running the service needs the fewest. A change of pyproject.toml
# or of the pins makes the environment anew.
READY := $(VENV)/.ready
TEST_READY := $(VENV)/.ready-test
BENCH_READY := $(VENV)/.ready-bench
CLIENTS_READY := $(VENV)/.ready-clients
INSTALL := PIP_CONSTRAINT=$(CONSTRAINTS) $(BIN)/python -m pip install --quiet \
	--disable-pip-version-check --editable
MEASURE := $(BIN)/python -m coverage
# Three processes on two cores: tests often wait for a disk or for a process to start.
PYTEST := -m pytest --numprocesses 3 --dist worksteal
# The Python versions that pyproject.toml declares.
PYTHONS := $(shell sed -n 's/^    "Programming Language :: Python :: \(3\.[0-9]*\)",$$/\1/p' pyproject.toml)
# Some tests of every kind, and all of those that depend on the versions of other packages.
CORE := $(foreach name, architecture batching connections content_polls content_votes forms gunicorn \
	hostile_forms idempotency limits logs malformed_http metrics openapi packaging poll_sessions \
	poll_submissions polls schema_fields shown startup tokens_http traces transactions workers, \
	$(or $(filter-out tests/long/%,$(wildcard tests/*/test_$(name).py)),tests/test_$(name).py))

.DEFAULT_GOAL := help
.PHONY: help run test coverage test-faults test-core test-lowest test-pythons test-image test-clients soak fuzz lint \
	format bench image constraints clean

# make test ENGINE=secantus
ifdef ENGINE
test test-faults test-core soak: export POLLS_ENGINE := $(ENGINE)
endif

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

run: $(READY) ## start the service on 127.0.0.1:8080; without MONGODB_URI it stores in ./data
	@exec $(BIN)/python -m service

test: $(TEST_READY) ## run the test suite; ENGINE=secantus: on the stand-in, COVERAGE=yes: measured
	$(COVERAGE:%=$(MEASURE) erase)
	$(if $(COVERAGE),$(MEASURE) run,$(BIN)/python) $(PYTEST) $(if $(FAULTS),,-m "not faults") $(ARGS)
	$(COVERAGE:%=$(MEASURE) combine --quiet)

coverage: $(TEST_READY) ## report the line coverage of make test COVERAGE=yes; below 95 % it fails
	@$(MEASURE) report $(ARGS)

test-faults: $(TEST_READY) ## run the tests that start, stop and kill processes and databases, 7 minutes
	$(BIN)/python $(PYTEST) -m faults $(ARGS)

test-core: $(TEST_READY) ## run a cross-section of the suite, 3 minutes
	$(BIN)/python $(PYTEST) $(ARGS) $(CORE)

test-lowest: .venv-lowest.txt ## run test-core on the lowest supported version of each dependency
	@$(MAKE) --no-print-directory test-core VENV=.venv-lowest CONSTRAINTS=$<

test-pythons: ## run test-core on each supported Python that is installed
	@for version in $(PYTHONS); do \
		python=$$(.ci/python $$version) || continue; \
		echo "Python $$version: $$python"; \
		$(MAKE) --no-print-directory test-core VENV=.venv-$$version PYTHON=$$python || exit 1; \
	done

test-image: $(TEST_READY) ## build the image on a base of its own and test it; as root on Debian
	$(BIN)/python -m pytest tests/image $(ARGS)

test-clients: $(CLIENTS_READY) ## generate clients from the OpenAPI document and test them, 1 minute
	$(BIN)/python -m pytest tests/generated $(ARGS)

soak: $(TEST_READY) ## run the long tests of races, kills and faults, 30 minutes
	$(BIN)/python -m pytest tests/long --timeout 1800 --durations 0 $(ARGS)

fuzz: $(TEST_READY) ## send random requests for 10 minutes; ARGS='--max-time 60': for one
	$(BIN)/python -m tests.fuzzing $(ARGS)

lint: $(BENCH_READY) ## check formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(TEST_READY) ## format the code, and fix what ruff can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(BENCH_READY) ## compare the speed with similar services, 25 minutes; ARGS=--quick: 6
	@command -v wrk > /dev/null || { \
		echo "make bench needs wrk, which is not installed: apt-get install wrk"; exit 1; }
	@exec $(BIN)/python -m bench $(ARGS)

image: ## build the container image polls-service with docker, podman or buildah
	@for engine in docker podman buildah; do \
		if $$engine info > /dev/null 2>&1; then \
			exec env BUILDAH_FORMAT=docker $$engine build --tag polls-service $(ARGS) .; \
		fi; \
	done; \
	echo "make image needs docker, podman or buildah, and none of them works here."; exit 1

# On x86-64 Linux with the oldest supported Python, which needs every package that the others need.
constraints: ## upgrade the pins in constraints.txt
	$(PYTHON) -m venv --clear .venv-constraints
	.venv-constraints/bin/python -m pip install --quiet --upgrade \
		--editable '.[embedded,speed,tracing,dev,bench,clients]'
	.venv-constraints/bin/python -m pip list --format freeze --exclude pip \
		--exclude polls-service | LC_ALL=C sort --ignore-case > .venv-constraints/pins
	mv .venv-constraints/pins $(CONSTRAINTS)
	rm -rf .venv-constraints

clean: ## remove virtual environments and caches; ./data stays
	rm -rf .venv* .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info \
		bench/contenders/fastify/node_modules

$(READY): pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "This needs Python 3.11 or newer: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(INSTALL) '.[embedded,speed]'
	@touch $@

$(TEST_READY): $(READY)
	$(INSTALL) '.[embedded,speed,tracing,dev]'
	@touch $@

$(BENCH_READY): $(TEST_READY)
	$(INSTALL) '.[embedded,speed,tracing,dev,bench]'
	@touch $@

$(CLIENTS_READY): $(TEST_READY)
	$(INSTALL) '.[embedded,speed,tracing,dev,clients]'
	@touch $@

.venv-lowest.txt: pyproject.toml constraints.txt tests/support/lowest.py
	$(PYTHON) -m tests.support.lowest > $@.new
	mv $@.new $@
