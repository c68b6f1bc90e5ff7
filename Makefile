PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SUITE_VENV ?= .venv-suite
SAM_VENV ?= .venv-sam

.DEFAULT_GOAL := help
.PHONY: help up test test-slow check bench requirements mangum-suite celery-suite sam-local

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("twolane needs Python 3.11 or newer; name one: make PYTHON=python3.13 …" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[local,test]'
	@touch $@

up: $(STAMP) ## Start the API, the queues, the worker and the schedules on this machine
	@$(BIN)/twolane up

test: $(STAMP) ## Run the tests
	@$(BIN)/python -m pytest -n auto --dist loadfile -m 'not slow'

test-slow: $(STAMP) ## Run the tests that take longer
	@$(BIN)/python -m pytest -n auto --dist loadfile -m slow

check: $(STAMP) ## Lint and type-check, the template raw and expanded too
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/cfn-lint template.yaml
	$(BIN)/twolane template | $(BIN)/cfn-lint
	$(BIN)/twolane lint

bench: $(STAMP) ## Run every benchmark
	@for file in benchmarks/[a-z]*.py; do $(BIN)/python "$$file" || exit 1; done

requirements: $(STAMP) ## Pin the functions' dependencies again, with hashes, for every platform
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9'
	$(BIN)/uv pip compile pyproject.toml --group app --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --upgrade --quiet --output-file handlers/requirements.txt

mangum-suite: $(STAMP) ## Run Mangum's own tests with ApiHandler in its place (SUITE=DIR: an unpacked source distribution)
	@tests/mangum_suite/run.sh $(abspath $(BIN))/python $(SUITE)

sam-local: $(STAMP) ## Prove `sam local` in Docker beside `twolane up --no-http`
	@test -x $(SAM_VENV)/bin/sam || { $(PYTHON) -m venv $(SAM_VENV) && \
	  $(SAM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check \
	    -r tests/sam_local/requirements.txt; }
	@$(BIN)/python tests/sam_local/prove.py $(abspath $(SAM_VENV))/bin/sam

celery-suite: ## Run Celery's own integration tests on our worker (SUITE=DIR: a checkout of celery/celery)
	@test -n "$(SUITE)" || { echo 'name a checkout of celery/celery: make celery-suite SUITE=DIR' >&2; exit 2; }
	@test -x $(SUITE_VENV)/bin/pytest || { $(PYTHON) -m venv $(SUITE_VENV) && \
	  $(SUITE_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[local]' 'redis<8' \
	    -r tests/celery_suite/requirements.txt; }
	cd $(SUITE) && PATH="$(abspath $(SUITE_VENV))/bin:$$PATH" PYTHONPATH="$(CURDIR)/tests/celery_suite" \
	  "$(abspath $(SUITE_VENV))/bin/pytest" -q --timeout 300 -p celery.contrib.pytest -p plugin \
	    -p no:cacheprovider t/integration
