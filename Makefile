# One entrance to everything. Needs Python 3.11+, make and a package registry; uv is fetched into .uv/ and the
# tools into .venv/, both inside this folder and both safe to delete.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The first interpreter that is new enough; `make PYTHON=python3.13 …` chooses another.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; done)
UV := .uv/bin/uv
BIN := .venv/bin
# Two processes: the tests wait more than they compute, and more than two starve the smallest machines they run on.
JOBS ?= 2
PYTEST := $(BIN)/python -m pytest
# Of what is slow by nature, the slowest is shown: it is the first to be looked at where the whole takes too long.
SLOWEST := --durations=10 --durations-min=1
PORT ?= 8080
# The one on PATH, else the one that the tests have built with Go.
HELM ?= $(or $(shell command -v helm),$(lastword $(wildcard $(HOME)/.cache/kadre/bin/helm-*)))

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(UV):
	@if [ -z '$(PYTHON)' ]; then echo 'Kadre needs Python 3.11 or newer: install it, or name it: make PYTHON=/path/to/python3' >&2; exit 1; fi
	@$(PYTHON) -m venv .uv || { rm -rf .uv; echo 'This Python cannot make a virtual environment (on Debian: install python3-venv).' >&2; exit 1; }
	@.uv/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.13,<1'

# The machine's own certificates, as every other tool on it uses: a company's proxy signs with one of them.
export UV_SYSTEM_CERTS ?= true
export UV_PYTHON_DOWNLOADS := never
# Modules are compiled once, whatever is set here: the tests start hundreds of processes.
unexport PYTHONDONTWRITEBYTECODE

# --inexact: each of the three sets adds to the environment, none takes away what another put there.
SYNC = $(UV) sync --frozen --inexact \
	--python "$$($(PYTHON) -c 'import sys; print(sys.executable)')"

.venv/.setup: uv.lock pyproject.toml | $(UV)
	@$(SYNC) --no-default-groups --extra local --compile-bytecode
	@touch $@

.venv/.tools: uv.lock pyproject.toml | .venv/.setup
	@$(SYNC) --all-extras
	@touch $@

.venv/.bench: uv.lock pyproject.toml | .venv/.tools
	@$(SYNC) --all-extras --group bench
	@touch $@

.PHONY: setup
setup: .venv/.setup ## Make .venv/bin/kadre, with the real model it can run without a key
	@:

.PHONY: run
run: setup ## Start the quickstart agent on localhost:8080 (PORT=… for another)
	@exec $(BIN)/kadre up examples/quickstart --port $(PORT)

.PHONY: check
check: .venv/.tools ## Format, lint, types, layers, budgets and unit tests: seconds
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(PYTEST) -n $(JOBS) tests/architecture tests/unit

.PHONY: test
test: .venv/.tools ## Every test that needs no root, no Go and no system package: under 5 minutes
	@$(PYTEST) -n $(JOBS) --ignore=tests/apiserver --ignore=tests/e2e -m "not stores" tests

.PHONY: test-stores
test-stores: .venv/.tools ## The contracts of journals and vector stores on servers of their own (Debian: postgresql-15, redis-server): a minute
	@$(PYTEST) -n $(JOBS) -m stores tests/contract/journal tests/contract/vectors tests/doors

KUBERNETES ?= 1.35
TEST_API := KADRE_TEST_KUBERNETES=$(KUBERNETES)

.PHONY: test-api
test-api: .venv/.tools ## Reconciling against a real API server, built by Go once (KUBERNETES=1.30: an older one)
	@$(TEST_API) $(BIN)/python -m tests.cluster build-api
	@$(TEST_API) $(PYTEST) -n $(JOBS) $(SLOWEST) tests/apiserver

.PHONY: e2e
e2e: .venv/.tools ## The whole on a real node of Kubernetes (`make machine`), or on KADRE_TEST_KUBECONFIG
	@[ -n "$${KADRE_TEST_KUBECONFIG:-}" ] || $(BIN)/python -m tests.cluster build
	@$(PYTEST) $(SLOWEST) tests/e2e

.PHONY: machine
machine: ## Install what the tests need of a Debian machine: a container runtime, PostgreSQL, Redis (root)
	@scripts/machine.sh

.PHONY: cluster-up
cluster-up: .venv/.tools ## Start the test cluster, for as long as it is wanted
	@$(BIN)/python -m tests.cluster up

.PHONY: cluster-down
cluster-down: .venv/.tools ## End the test cluster
	@$(BIN)/python -m tests.cluster down

.PHONY: bench
bench: .venv/.bench ## Measure Kadre beside a floor and beside its peers
	@$(BIN)/python -m benchmarks.turns

.PHONY: gen
gen: .venv/.tools ## Renew the reference pages and every golden file
	@$(BIN)/python -m scripts.gen
	@[ -z '$(HELM)' ] || $(BIN)/python -m scripts.manifests '$(HELM)'

.PHONY: bench-gateway
bench-gateway: .venv/.bench ## Measure what the gateway adds to a request, beside a bare reverse proxy
	@$(BIN)/python -m benchmarks.gateway --out benchmarks/results

.PHONY: bench-pool
bench-pool: .venv/.bench ## Measure what 200 agents cost in one pod, beside a floor that only follows and forwards
	@$(BIN)/python -m benchmarks.pool --out benchmarks/results

.PHONY: bench-operator
bench-operator: .venv/.bench ## Measure the controller beside a floor that sends the same writes
	@$(BIN)/python -m benchmarks.reconcile --out benchmarks/results
	@$(BIN)/python -m benchmarks.first_ready

.PHONY: bench-memory
bench-memory: .venv/.bench ## Measure what keeping a turn costs beside LangGraph's checkpointers, and recalling memories
	@$(BIN)/python -m benchmarks.checkpoints --out benchmarks/results
	@$(BIN)/python -m benchmarks.recall --stores sqlite,pgvector,milvus --out benchmarks/results

# What `gen` writes; `verify` compares these folders only, so that work in progress elsewhere does not matter.
GENERATED := docs/reference tests/golden src/kadre/operator/installation.yaml

.PHONY: verify
verify: gen ## Fail when `make gen` changes anything: a generated file was forgotten or edited by hand
	@left="$$(git status --porcelain -- $(GENERATED))"; \
	if [ -n "$$left" ]; then echo 'Generated files are not up to date; commit what `make gen` wrote:' >&2; echo "$$left" >&2; exit 1; fi

.PHONY: dist
dist: setup ## Make the release files in dist/: the wheel and the CRDs
	@$(UV) build --wheel --out-dir dist
	@$(BIN)/kadre crds > dist/crds.yaml

CHARTS ?= dist/charts

.PHONY: chart
chart: .venv/.tools ## Package the Helm chart, with its repository's index, in dist/charts (URL=… where it is served)
	@helm='$(HELM)'; \
	[ -n "$$helm" ] || helm="$$($(BIN)/python -c 'from tests.cluster import programs; print(programs.published("helm"))')"; \
	mkdir -p '$(CHARTS)'; \
	"$$helm" package charts/kadre --destination '$(CHARTS)'; \
	"$$helm" repo index '$(CHARTS)' $(if $(URL),--url '$(URL)')

.PHONY: clean
clean: ## Remove environments, caches and built packages (not .kadre/, which holds conversations)
	@rm -rf .venv .uv dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
