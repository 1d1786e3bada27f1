# Every command of the project. `make` alone lists them. Set-up happens by itself and only when it is needed.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
PY := $(VENV)/bin/python
PACKAGES := common ai_service user_service alert_service log_service external_apis_services local_stack assay bench
PYTEST_ARGS ?=
MEASURED := tests/unit tests/api tests/integration/assay
ALONE := tests/e2e/test_overload.py tests/e2e/test_fault_matrix.py tests/e2e/test_store_faults.py
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

.PHONY: run-servers
run-servers: setup-dev ## The same on PostgreSQL and Valkey, started too; with STORES=servers, make demo does so as well
	@STORES=servers $(PY) -m local_stack run

.PHONY: dev
dev: setup ## The same, and each service starts again when its code changes
	@$(PY) -m local_stack dev

.PHONY: demo
demo: setup ## Send thousands of simulated transactions through the real services and count what arrived
	@$(PY) -m local_stack demo

.PHONY: operator
operator: setup ## Print a token of an operator of the stack that runs (make run); EMAIL=... is another one
	@$(PY) -m local_stack operator $(if $(EMAIL),--email "$(EMAIL)")

# Coverage is that of tests that start no services: tracing whole stacks would make their services three times as slow as they
# are. What counts how many payers are served has the cores to itself.
.PHONY: test
test: check ## Everything CI asks for: check, then every test, unit and API tests with branch coverage; JUNIT=folder keeps reports
	@status=0; \
	$(PY) -m pytest --numprocesses 2 --dist loadfile --cov --cov-report=term $(if $(JUNIT),--junit-xml="$(JUNIT)/parts.xml") \
	  $(PYTEST_ARGS) $(MEASURED) || status=$$?; \
	$(PY) -m pytest --numprocesses 1 $(if $(JUNIT),--junit-xml="$(JUNIT)/alone.xml") $(PYTEST_ARGS) $(ALONE) || status=$$?; \
	$(PY) -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(if $(JUNIT),--junit-xml="$(JUNIT)/whole.xml") \
	  $(PYTEST_ARGS) $(ALONE:%=--ignore=%) $(MEASURED:%=--ignore=%) tests/e2e tests/security tests/integration || status=$$?; \
	exit $$status

.PHONY: test-security
test-security: setup-dev ## Who may call what, attacks with tokens, tenancy: every case, counted (part of make test)
	@$(PY) -m pytest --quiet --numprocesses 2 --dist loadfile tests/security $(PYTEST_ARGS)

.PHONY: faults
faults: setup-dev ## Every dependency fails in every way, with longer phases (15 minutes); figures in var/faults/; STORES=servers
	@$(PY) -m tests.faults.matrix --baseline-s 20 --fault-s 20 --results var/faults $(if $(STORES),--stores $(STORES))

.PHONY: check
check: setup-dev ## Format, lint, types, import contracts, file sizes, no SQL from strings
	@echo "==> Format"; $(PY) -m ruff format --check .
	@echo "==> Lint"; $(PY) -m ruff check .
	@echo "==> Types"; $(PY) -m mypy
	@echo "==> Import contracts"; $(PY) -c '$(LINT_IMPORTS)'
	@echo "==> File sizes"; $(PY) -m tests.sizes
	@echo "==> SQL from tables alone"; $(PY) -m tests.sql_texts

.PHONY: format
format: setup-dev ## Put code into the project's format and fix what the linter can fix
	@$(PY) -m ruff check --fix --exit-zero --quiet .
	@$(PY) -m ruff format .

.PHONY: bench
bench: setup-dev ## Measure the product against its yardsticks; QUICK=1 is one short round, ROWS="echo lean" only these
	@$(PY) -m bench $(if $(QUICK),--quick) $(if $(ROWS),--only "$(ROWS)")

.PHONY: model
model: setup ## Train the fraud model on simulated transactions, unless there is one
	@$(PY) -m local_stack model

# the PostgreSQL of a stopped stack comes with the tools for tests
FOR_ITS_STORE := $(if $(filter servers,$(STORES)),setup-dev,setup)

.PHONY: backup
backup: $(FOR_ITS_STORE) ## Back up databases, keys, models and archive, also while they run; TO=folder, KEEP=7, STORES, BACKUP_PASSPHRASE
	@$(PY) -m assay backup $(if $(TO),"$(TO)") $(if $(KEEP),--keep $(KEEP))

.PHONY: restore
restore: $(FOR_ITS_STORE) ## Restore a backup into an empty, stopped stack: make restore FROM=var/backups/assay-....tar; STORES=servers
	@$(PY) -m assay restore "$(if $(FROM),$(FROM),$(error say which: make restore FROM=FILE))"

.PHONY: geoip
geoip: setup ## Fetch the pinned GeoIP data, unless it is there
	@$(PY) -m local_stack geoip

COMPOSE_SECRETS := POSTGRES_PASSWORD DATABASE_PASSWORD S3_SECRET_ACCESS_KEY SIGNING_KEY_PASSPHRASE AI_SERVICE_SECRET \
  ALERT_SERVICE_SECRET LOG_SERVICE_SECRET EXTERNAL_APIS_SERVICE_SECRET AI_VALKEY_PASSWORD USER_VALKEY_PASSWORD

# one certificate for the servers of docker-compose.yml, by their names there and on this machine
COMPOSE_NAMES := DNS:postgres,DNS:valkey,DNS:localhost,IP:127.0.0.1
TEN_YEARS := 3650

# A second time it changes nothing that is there: with another passphrase no saved signing key opens. The containers run
# as another user, who reads var/geoip and the authority's certificate.
.PHONY: compose-env
compose-env: ## Make what docker compose needs, unless it is there: secrets, certificates and folders in var/
	@umask 077; mkdir -p var; \
	if [ ! -d var/geoip ]; then mkdir -m 755 var/geoip; fi; \
	unfinished="$$(mktemp -d var/.compose.XXXXXX)"; trap 'rm -rf "$$unfinished"' EXIT; \
	if [ ! -d var/compose-tls ]; then $(MAKE) --no-print-directory -f $(firstword $(MAKEFILE_LIST)) compose-tls TO="$$unfinished/tls"; \
	  mv -n "$$unfinished/tls" var/compose-tls; echo "Made var/compose-tls."; fi; \
	if [ -e var/compose.env ]; then cat var/compose.env > "$$unfinished/env"; else : > "$$unfinished/env"; fi; \
	added=""; for name in $(COMPOSE_SECRETS); do \
	  if grep -q "^$$name=" "$$unfinished/env"; then continue; fi; \
	  value="$$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')"; echo "$$name=$$value" >> "$$unfinished/env"; \
	  added="$$added $$name"; \
	done; \
	if [ -z "$$added" ]; then echo "var/compose.env is there already."; exit 0; fi; \
	mv "$$unfinished/env" var/compose.env; \
	echo "Made in var/compose.env:$$added. Keep it: the saved keys open with it alone."

# an authority that signs this one certificate, whose key stays beside it for the next one
.PHONY: compose-tls
compose-tls:
	@command -v openssl > /dev/null || { echo "make compose-env needs openssl." >&2; exit 1; }; \
	umask 077; mkdir -m 755 "$(TO)"; \
	plain="$$(printf '[req]\ndistinguished_name=dn\n[dn]\n')"; \
	openssl req -x509 -config <(echo "$$plain") -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days $(TEN_YEARS) \
	  -subj "/CN=Assay on this machine" -addext basicConstraints=critical,CA:TRUE,pathlen:0 \
	  -addext keyUsage=critical,keyCertSign,cRLSign -addext subjectKeyIdentifier=hash \
	  -keyout "$(TO)/ca.key" -out "$(TO)/ca.crt" 2> /dev/null; \
	openssl req -new -config <(echo "$$plain") -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=postgres" \
	  -keyout "$(TO)/server.key" -out "$(TO)/server.csr" 2> /dev/null; \
	openssl x509 -req -in "$(TO)/server.csr" -CA "$(TO)/ca.crt" -CAkey "$(TO)/ca.key" -days $(TEN_YEARS) \
	  -set_serial "0x$$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')" -out "$(TO)/server.crt" -extfile <(printf \
	  'basicConstraints=critical,CA:FALSE\nsubjectAltName=$(COMPOSE_NAMES)\nextendedKeyUsage=serverAuth\nauthorityKeyIdentifier=keyid\n') \
	  2> /dev/null; \
	rm "$(TO)/server.csr"; chmod 644 "$(TO)/ca.crt" "$(TO)/server.crt"

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
