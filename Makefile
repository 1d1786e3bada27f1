# Every command of the project. `make` alone lists them. Set-up happens by itself and only when it is needed.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
PY := $(VENV)/bin/python
PACKAGES := common ai_service user_service alert_service log_service external_apis_services local_stack bench
PYTEST_ARGS ?=
LOCK_ARGS ?=

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
# one thread per process: scikit-learn's own threads make single rows slower, not faster
export OMP_NUM_THREADS ?= 1

# The first Python that is new enough and can make virtual environments; PYTHON=... chooses another.
FIND_PYTHON = for python in "$${PYTHON:-python3}" python3.14 python3.13 python3.12 python3.11; do \
	  if "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "$$python"; exit 0; fi; done; \
	  echo "Assay needs Python 3.11 or newer with its venv module, and found none." >&2; \
	  echo "On Debian or Ubuntu: apt install python3 python3-venv   (elsewhere: PYTHON=/path/to/python make ...)" >&2; \
	  exit 1

# not its script: that names the place where the environment was made, and a clone may be moved
LINT_IMPORTS = from importlinter.cli import lint_imports_command; lint_imports_command()

# $(call install,LOCK FILE,WORDS): install what LOCK FILE pins, unless exactly that was installed before.
install = stamp="$(VENV)/.installed-$(1)"; \
	if ! cmp -s "$(1)" "$$stamp"; then \
	  echo "==> Installing $(2) (once; takes a minute or two)"; \
	  $(PY) -m pip install --quiet --require-hashes -r "$(1)" || { \
	    echo "Installing from $(1) failed: is the package index reachable? What is there stays; run make again." >&2; \
	    exit 1; }; \
	  cp "$(1)" "$$stamp"; \
	fi

.PHONY: help
help: ## List what there is
	@echo "Assay. Usage: make TARGET"
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)$$/  \1\t\2/p' Makefile | expand -t 14

.PHONY: run
run: setup ## Start all services on this machine and show where they are; Ctrl-C stops them
	@$(PY) -m local_stack run

.PHONY: dev
dev: setup ## The same, and each service starts again when its code changes
	@$(PY) -m local_stack dev

.PHONY: demo
demo: setup ## Send thousands of simulated transactions through the real services and count what arrived
	@$(PY) -m local_stack demo

.PHONY: test
test: check ## Everything CI asks for: check, then every test with branch coverage
	@$(PY) -m pytest --cov --cov-report=term $(PYTEST_ARGS)

.PHONY: test-security
test-security: setup-dev ## Who may call what, attacks with tokens, tenancy: every case, counted (part of make test)
	@$(PY) -m pytest --quiet tests/security $(PYTEST_ARGS)

.PHONY: faults
faults: setup-dev ## Every dependency fails in every way, with longer phases (15 minutes); figures in var/faults/
	@$(PY) -m tests.faults.matrix --baseline-s 20 --fault-s 20 --results var/faults

.PHONY: check
check: setup-dev ## Format, lint, types, import contracts, file sizes
	@echo "==> Format"; $(PY) -m ruff format --check .
	@echo "==> Lint"; $(PY) -m ruff check .
	@echo "==> Types"; $(PY) -m mypy
	@echo "==> Import contracts"; $(PY) -c '$(LINT_IMPORTS)'
	@echo "==> File sizes"; $(PY) -m tests.sizes

.PHONY: format
format: setup-dev ## Put code into the project's format and fix what the linter can fix
	@$(PY) -m ruff check --fix --exit-zero --quiet .
	@$(PY) -m ruff format .

.PHONY: bench
bench: setup ## Measure the product against its yardsticks; QUICK=1 is one short round, ROWS="echo lean" only these
	@$(PY) -m bench $(if $(QUICK),--quick) $(if $(ROWS),--only "$(ROWS)")

.PHONY: model
model: setup ## Train the fraud model on simulated transactions, unless there is one
	@$(PY) -m local_stack model

.PHONY: geoip
geoip: setup ## Fetch the pinned GeoIP data, unless it is there
	@$(PY) -m local_stack geoip

COMPOSE_SECRETS := POSTGRES_PASSWORD S3_SECRET_ACCESS_KEY SIGNING_KEY_PASSPHRASE AI_SERVICE_SECRET \
  ALERT_SERVICE_SECRET LOG_SERVICE_SECRET EXTERNAL_APIS_SERVICE_SECRET

# A second time it changes nothing: with another passphrase no saved signing key opens. The containers run as another
# user, who reads var/geoip.
.PHONY: compose-env
compose-env: ## Make what docker compose needs: secrets in var/compose.env, unless they are there, and var/geoip
	@umask 077; mkdir -p var; \
	if [ ! -d var/geoip ]; then mkdir -m 755 var/geoip; fi; \
	if [ -e var/compose.env ]; then echo "var/compose.env is there already."; exit 0; fi; \
	unfinished="$$(mktemp var/.compose.env.XXXXXX)"; trap 'rm -f "$$unfinished"' EXIT; \
	for name in $(COMPOSE_SECRETS); do \
	  value="$$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')"; echo "$$name=$$value" >> "$$unfinished"; \
	done; \
	mv -n "$$unfinished" var/compose.env; \
	echo "Made var/compose.env. Keep it: the saved keys open with it alone."

.PHONY: openapi
openapi: setup-dev ## Write each service's OpenAPI description to docs/openapi/
	@$(PY) -m tests.openapi

.PHONY: env-example
env-example: setup-dev ## Write .env.example anew from the settings classes
	@$(PY) -m tests.env_example

# The lock files name no index, so they work with any; uv is only needed here and is thrown away.
.PHONY: lock
lock: venv ## Resolve pyproject.toml into the hashed lock files; LOCK_ARGS=--upgrade takes newer versions
	@uv_home="$$(mktemp -d)"; trap 'rm -rf "$$uv_home"' EXIT; \
	$(PY) -m venv "$$uv_home" && "$$uv_home/bin/python" -m pip install --quiet uv; \
	compile() { UV_CUSTOM_COMPILE_COMMAND="make lock" "$$uv_home/bin/python" -m uv pip compile --quiet --universal \
	  --python-version 3.11 --generate-hashes --no-annotate $(LOCK_ARGS) "$$@"; }; \
	echo "==> requirements.txt"; compile pyproject.toml -o requirements.txt; \
	echo "==> requirements-dev.txt"; compile pyproject.toml --group dev -c requirements.txt -o requirements-dev.txt; \
	echo "==> requirements-npm.txt"; compile --group npm -o requirements-npm.txt

.PHONY: clean
clean: ## Remove what tools left behind; keeps .venv and the data in var/
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.* htmlcov
	@find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

.PHONY: setup
setup: venv
	@$(call install,requirements.txt,the libraries)

# the lock for tests holds the libraries as well, so a fresh machine installs once
.PHONY: setup-dev
setup-dev: venv
	@$(call install,requirements-dev.txt,the libraries and the tools for checks and tests); \
	cp requirements.txt "$(VENV)/.installed-requirements.txt"

# pip comes last when an environment is made: without it the environment is half made, moved or its Python is gone
.PHONY: venv
venv:
	@if ! $(PY) -c 'import pip' 2>/dev/null; then \
	  python="$$($(FIND_PYTHON))"; \
	  echo "==> Making a virtual environment with $$("$$python" --version)"; \
	  "$$python" -m venv --clear $(VENV); \
	fi
