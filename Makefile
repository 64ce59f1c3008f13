PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Rebuilt whenever what the project needs has changed.
READY := $(VENV)/.ready
BENCH_READY := $(VENV)/.ready-bench
INSTALL := PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet \
	--disable-pip-version-check --editable

.DEFAULT_GOAL := help
.PHONY: help run test soak fuzz lint bench image format clean

help: ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

run: $(READY) ## serve on 127.0.0.1:8080, with the embedded store in ./data unless MONGODB_URI is set
	@exec $(BIN)/python -m service

test: $(READY) ## the whole test suite, on an embedded server of its own
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal $(ARGS)

soak: $(READY) ## races, kills and faults in full: 10 minutes on a quiet machine, else longer
	$(BIN)/python -m pytest tests/long --timeout 1800 --durations 0 $(ARGS)

fuzz: $(READY) ## whatever the OpenAPI document allows and forbids, for 10 minutes; ARGS='--max-time 60'
	$(BIN)/python -m tests.fuzzing $(ARGS)

lint: $(BENCH_READY) ## formatting, lint, strict types: code, tests and bench
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(BENCH_READY) ## speed beside others that do the same work, about 20 minutes; ARGS=--quick: 6
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

.PHONY: test-image
test-image: $(READY) ## the image, built on a base made by debootstrap, and run: as root on Debian
	$(BIN)/python -m pytest tests/image $(ARGS)

format: $(READY) ## put the code into its one format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove the virtual environment and all caches; never ./data
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(INSTALL) '.[embedded,tracing,dev]'
	@touch $@

$(BENCH_READY): $(READY)
	$(INSTALL) '.[embedded,tracing,dev,bench]'
	@touch $@
