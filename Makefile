PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
# What is installed in $(VENV) for `make up`, and beside that for `make test` and `make check`.
RUN := $(VENV)/.installed-run
TEST := $(VENV)/.installed-test
CHECK := $(VENV)/.installed-check
SUITE_VENV ?= .venv-suite
AWS_SUITE_VENV ?= .venv-aws-suite
# LocalStack's tests need Python 3.12 or newer.
AWS_SUITE_PYTHON ?= python3.13
# Tools with dependencies of their own, apart from ours and from each other's.
SAM_VENV ?= .venv-sam
CHECKOV_VENV ?= .venv-checkov
export SAM_CLI_TELEMETRY ?= 0
# Hundreds of child processes import the same sources: each would compile them again.
unexport PYTHONDONTWRITEBYTECODE
# What the functions are built for: template.yaml's Runtime and Architecture. Give the same to
# `sam deploy --parameter-overrides`.
RUNTIME ?= python3.13
ARCHITECTURE ?= x86_64
BUILD_DIR ?= .aws-sam/build

# One more than there are cores: many tests wait for a process of theirs.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else "auto")')

.DEFAULT_GOAL := help
.PHONY: help up test matrix canary test-slow coverage fuzz fuzz-templates fuzz-endpoint templates simulate exhaustive campaign resource-types check check-infra build dist bench aws-proof mutants screenshots requirements mangum-suite celery-suite applications aws-suites sam-local

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# The packages of pyproject.toml's group `app`: pip knows groups since 25.1, and Python may bring an
# older one, which is newer once `make test` or `make check` has run.
APP = $$($(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["app"])')
GROUP = $(PIP) install 'pip>=25.1' && $(PIP) install --group

# Modules are compiled when they are first imported: most never are.
$(RUN): pyproject.toml local/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("twolane needs Python 3.11 or newer; name one: make PYTHON=python3.13 …" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --no-compile -e . -e ./local $(APP)
	@touch $@

$(TEST): $(RUN)
	$(GROUP) test
	@touch $@

$(CHECK): $(RUN)
	$(GROUP) check
	@touch $@

up: $(RUN) ## Start the API, the queues, the worker and the schedules on this machine
	@$(BIN)/twolane up

# In the order of tests/conftest.py: the longest first.
BY_FILE := --dist loadfile --no-loadscope-reorder

test: $(TEST) ## Run the tests
	@$(BIN)/python -m pytest -n $(WORKERS) $(BY_FILE) -m 'not slow'

test-slow: $(TEST) ## Run the tests that take longer
	@$(BIN)/python -m pytest -n auto --dist loadfile -m slow

COVERED ?= not slow
coverage: $(TEST) ## Run the tests and say how many lines and branches of both packages they reach (COVERED='slow or not slow')
	@rm -rf build/coverage && mkdir -p build/coverage
	@$(BIN)/coverage run -m pytest -n $(WORKERS) $(BY_FILE) -m '$(COVERED)'
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --skip-covered --sort=cover

fuzz: $(TEST) ## Look for new examples that break a property
	@$(BIN)/python -m pytest -n auto -m hypothesis --hypothesis-profile=fresh

TRIES ?= 10000
SEED ?= 1
fuzz-templates: $(TEST) ## Read 10,000 mutated templates: no traceback, no hang (TRIES=)
	@TEMPLATE_TRIES=$(TRIES) $(BIN)/python -m pytest -n auto -m slow --hypothesis-profile=fresh tests/twolane_local/template/test_mutations.py

fuzz-endpoint: $(TEST) ## Send 10,000 random calls to the AWS endpoint: no page, no traceback, no hang (TRIES=, SEED=)
	@ENDPOINT_TRIES=$(TRIES) ENDPOINT_SEED=$(SEED) $(BIN)/python -m pytest -m slow tests/twolane_local/moto/test_endpoint_fuzz.py

templates: $(TEST) ## Start every template under a folder, and say what starts (DIR=; ARGS='--sample 100 --seed 1')
	@test -n "$(DIR)" || { echo 'name a folder with templates: make templates DIR=…' >&2; exit 2; }
	@$(BIN)/python tests/templates_run/run.py "$(DIR)" $(ARGS)

simulate: $(RUN) ## Run 10,000 random schedules with faults (minutes)
	@$(BIN)/twolane simulate --runs 10000

exhaustive: $(RUN) ## Strike each primitive at every point, once and twice, for ten minutes; writes docs/faults.md's table
	@$(BIN)/twolane simulate --exhaustive --minutes 10 --table

SEEDS ?= 1 2 3
STORE ?= redis dynamodb
TASKS ?= 2000
campaign: $(TEST) ## Send 2,000 tasks at real processes while they are killed, for three seeds on each store (SEEDS=, STORE=, TASKS=)
	@rm -rf build/campaign && mkdir -p build/campaign
	@failed=0; for store in $(STORE); do for seed in $(SEEDS); do \
	  $(BIN)/python -m tests.campaign --store $$store --seed $$seed --tasks $(TASKS) --json \
	    --keep build/campaign/$$store-$$seed > build/campaign/$$store-$$seed.json || failed=1; done; done; \
	$(BIN)/python -m tests.campaign --table build/campaign/*.json && exit $$failed

check: $(CHECK) ## Lint and type-check, the template raw, expanded and built too
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@$(MAKE) --no-print-directory check-infra

$(SAM_VENV)/.installed: infra/tools/sam.txt
	$(PYTHON) -m venv $(SAM_VENV)
	$(SAM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

$(CHECKOV_VENV)/.installed: infra/tools/checkov.txt
	$(PYTHON) -m venv $(CHECKOV_VENV)
	$(CHECKOV_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

# Neither needs an account, credentials or a region; once the tools are installed, nothing but
# `sam build`'s pip needs a network. The runtime is this machine's, so that its Python is there.
check-infra: $(CHECK) $(SAM_VENV)/.installed $(CHECKOV_VENV)/.installed
	$(SAM_VENV)/bin/sam validate --lint
	$(BIN)/cfn-lint -a cfn_lint_serverless.rules -- template.yaml infra/*.yaml infra/pipeline/role.yaml
	$(BIN)/cfn-lint -- infra/proof/template.yaml examples/*/template.yaml
	@mkdir -p build
	$(BIN)/twolane template > build/expanded.json
	$(BIN)/cfn-lint -a cfn_lint_serverless.rules < build/expanded.json
	$(BIN)/twolane lint --fail-on note template.yaml infra/*.yaml infra/pipeline/role.yaml
	$(CHECKOV_VENV)/bin/checkov --quiet --compact --skip-download \
	  --framework cloudformation dockerfile \
	  -f build/expanded.json infra/*.yaml infra/pipeline/role.yaml infra/long-lane/Dockerfile
	@rm -rf build/workflow && mkdir -p build/workflow/.github/workflows
	@cp infra/pipeline/deploy.yml .github/workflows/*.yml build/workflow/.github/workflows
	$(CHECKOV_VENV)/bin/checkov --quiet --compact --skip-download --framework github_actions -d build/workflow
	$(MAKE) build RUNTIME=$$($(BIN)/python -c 'import sys; print("python%d.%d" % sys.version_info[:2])') \
	  ARCHITECTURE=$$(uname -m | sed -e s/aarch64/arm64/ -e s/amd64/x86_64/) \
	  BUILD_DIR=build/check PATH="$(abspath $(BIN)):$$PATH"

build: $(RUN) $(SAM_VENV)/.installed ## Build the functions' artifact: `sam build`, then prune and compile it
	@command -v $(RUNTIME) >/dev/null || { echo '$(RUNTIME) is not on the PATH: install it, or name another: make build RUNTIME=python3.12' >&2; exit 2; }
	$(SAM_VENV)/bin/sam build --build-dir $(BUILD_DIR) \
	  --parameter-overrides Runtime=$(RUNTIME) Architecture=$(ARCHITECTURE)
	$(BIN)/twolane artifact --python $(RUNTIME) $(BUILD_DIR)

dist: $(TEST) ## Build both distributions into dist/, as a release does
	@rm -rf dist
	$(BIN)/hatchling build -d $(CURDIR)/dist
	cd local && $(abspath $(BIN))/hatchling build -d $(CURDIR)/dist

bench: $(TEST) ## Run every benchmark
	@for file in benchmarks/[a-z]*.py; do $(BIN)/python "$$file" || exit 1; done

aws-proof: $(TEST) ## Ask a real AWS account what could not be verified without one (PROOF=--emulator: only the emulator)
	@$(BIN)/python infra/proof/prove.py --sam $(abspath $(SAM_VENV))/bin/sam $(PROOF)

mutants: $(TEST) ## Break the core line by line, and see the tests fail (an hour; MUTANTS: names)
	@$(BIN)/python tests/mutants/run.py --table $(MUTANTS)

screenshots: $(TEST) ## Take the pictures of docs/console.md again, with this machine's Chromium
	@$(BIN)/python docs/console/screenshots.py

requirements: $(RUN) ## Pin the functions' dependencies again, with hashes, for every platform
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9'
	$(BIN)/uv pip compile pyproject.toml --group function --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --upgrade --quiet --output-file handlers/requirements.txt
	$(BIN)/uv pip compile infra/tools/sam.in --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --upgrade --quiet --output-file infra/tools/sam.txt
	$(BIN)/uv pip compile infra/tools/checkov.in --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --upgrade --quiet --output-file infra/tools/checkov.txt
	$(BIN)/uv pip compile infra/long-lane/requirements.in -c handlers/requirements.txt --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --upgrade --quiet --output-file infra/long-lane/requirements.txt

resource-types: $(CHECK) ## Make the table of CloudFormation's resource types again, from cfn-lint's copy
	$(BIN)/python infra/tools/resource_types.py

mangum-suite: $(TEST) ## Run Mangum's own tests with ApiHandler in its place (SUITE=DIR: an unpacked source distribution)
	@tests/mangum_suite/run.sh $(abspath $(BIN))/python $(SUITE)

sam-local: $(TEST) $(SAM_VENV)/.installed ## Prove `sam local` in Docker beside `twolane up --no-http`
	@$(BIN)/python tests/sam_local/prove.py $(abspath $(SAM_VENV))/bin/sam

applications: $(TEST) ## Run public applications with their own pins (SUITE=DIR: their checkouts, or ARGS=--clone; ARGS='--only flask-example')
	@test -n "$(SUITE)" || { echo 'name a folder with checkouts: make applications SUITE=DIR' >&2; exit 2; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9'
	@$(BIN)/python tests/applications/run.py $(abspath $(SUITE)) $(ARGS)

celery-suite: ## Run Celery's own integration tests on our worker (SUITE=DIR: a checkout of celery/celery)
	@test -n "$(SUITE)" || { echo 'name a checkout of celery/celery: make celery-suite SUITE=DIR' >&2; exit 2; }
	@test -x $(SUITE_VENV)/bin/pytest || { $(PYTHON) -m venv $(SUITE_VENV) && \
	  $(SUITE_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e . -e ./local 'kombu[sqs]' 'redis<8' \
	    -r tests/celery_suite/requirements.txt; }
	cd $(SUITE) && PATH="$(abspath $(SUITE_VENV))/bin:$$PATH" PYTHONPATH="$(CURDIR)/tests/celery_suite" \
	  "$(abspath $(SUITE_VENV))/bin/pytest" -q --timeout 300 -p celery.contrib.pytest -p plugin \
	    -p no:cacheprovider t/integration

matrix: ## Run the runtime's tests and Celery's own against each supported version (hours; ARGS='--only oldest'); writes docs/compatibility.md's table
	@$(PYTHON) tests/matrix/run.py $(ARGS)

canary: ## Install the newest of everything, pre-releases too, and say which patch breaks first
	@$(PYTHON) tests/matrix/run.py --canary $(ARGS)

aws-suites: $(TEST) ## Run public suites that passed against AWS on `twolane up` (SUITE=DIR: a checkout of localstack/localstack; ARGS='--only sqs -k fifo')
	@test -n "$(SUITE)" || { echo 'name a checkout of localstack/localstack: make aws-suites SUITE=DIR' >&2; exit 2; }
	@test -x $(AWS_SUITE_VENV)/bin/pytest || { $(AWS_SUITE_PYTHON) -m venv $(AWS_SUITE_VENV) && \
	  $(AWS_SUITE_VENV)/bin/python -m pip install --quiet --disable-pip-version-check \
	    -r tests/aws_suites/requirements.txt; }
	@$(AWS_SUITE_VENV)/bin/python tests/aws_suites/run.py $(abspath $(BIN))/twolane $(abspath $(SUITE)) $(ARGS)
