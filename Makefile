# `make help` lists what there is. Everything runs from .venv; nothing needs to be activated.
PYTHON ?= python3
VENV   ?= .venv
# Set on the command line only, so that no variable of that name in a shell counts.
API    := legacy
BIN    := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
# Four at a time on any machine: engines and plugins mostly wait.
QUICK  := $(PYTEST) -m "not chaos" -n 4 --dist worksteal

# Hundreds of processes import the package: they share its bytecode, whatever the shell says.
unexport PYTHONDONTWRITEBYTECODE

# One environment serves one lock, one pyproject.toml and one Python: the stamp's name has all three.
KEY   := $(shell { cat requirements/dev.txt pyproject.toml; $(PYTHON) -VV; } 2>/dev/null | cksum | tr ' ' -)
READY := $(VENV)/ready-$(KEY)

.DEFAULT_GOAL := help
.PHONY: help demo setup test coverage unit plugin e2e languages chaos bench compat dist lint generate docs picture lock audit clean

##@ Start here

help: ## this list
	@awk -F ':.*## ' '/^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z0-9]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: setup ## a machine from nothing to gone, against the emulator: no key, no bill; or with API=v1
	@$(BIN)/python tools/demo.py --api $(API)

setup: $(READY) ## .venv with the locked packages and a pulumi; a moment when all is there
	@$(BIN)/python tools/pulumi-cli/install.py $(BIN)

##@ While you work

unit: setup ## the package by itself: no network, no sleeping
	@$(QUICK) tests/unit

plugin: setup ## the real plugin process, over gRPC
	@$(QUICK) tests/plugin

e2e: setup ## the real pulumi against the emulator
	@$(QUICK) tests/e2e

generate: setup ## the reference and the native plugin's schema, from what the code declares
	@$(BIN)/python -m tools.generate

lint: setup ## style, types, the order of the modules, the declared packages, the generated files, the workflows' security
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/deptry --no-ansi provider
	@$(BIN)/python -m tools.generate --check
	@$(BIN)/zizmor --offline --quiet .github

##@ Before a change lands

# In one pool of processes, so that the engines of some tests wait while others work.
test: lint ## lint and all tests but the slow ones, as CI does on every Python
	@$(QUICK) tests/simulation tests/unit tests/plugin tests/e2e

# Coverage makes the unit tests take twice as long.
coverage: setup ## the unit and plugin tests again, with the floor of coverage; CI does it once
	@$(QUICK) --cov --cov-report=term --no-cov-on-fail tests/unit tests/plugin

##@ Before a release

chaos: setup ## half of all pairs of commands in every order, and ten thousand schedules, below Pulumi; faults, kills and a fuzzer above it
	@$(PYTEST) -m chaos -n 4 --dist worksteal tests/simulation tests/chaos tests/e2e tests/plugin

compat: setup ## unit and plugin tests on every Python at hand, with the oldest and the locked SDK; e2e on the oldest and the newest pulumi
	@$(BIN)/nox --session compat engines

languages: setup ## the examples in other languages, and every SDK with the schema's; needs Pulumi's language hosts
	@$(BIN)/python -m tools.languages

dist: setup ## the wheel, the sdist and the plugin's archives, checked as they are once installed; see RELEASING.md
	@$(BIN)/nox --session dist installed plugin

bench: setup ## how fast, and with how many API calls, beside a provider as one would write it today
	@$(BIN)/python -m benchmarks --csv docs/benchmark.csv

##@ Upkeep

docs: setup ## the docs as a site, in the folder site; fails for a broken link
	@$(BIN)/nox --session docs

picture: setup ## the pictures of terminals in the README and the docs, from runs
	@$(BIN)/python -m tools.picture

COMPILE := $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.10 \
	--generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

lock: setup ## the newest versions that fit into requirements/dev.txt, and those of the plugin's archives and the site
	@$(COMPILE) pyproject.toml --all-extras --group dev --group build --output-file requirements/dev.txt
	@$(COMPILE) pyproject.toml --constraint requirements/dev.txt --output-file requirements/plugin.txt
	@$(COMPILE) --group docs --output-file requirements/docs.txt

audit: setup ## known vulnerabilities in the locked versions; asks a database on the network
	@$(BIN)/nox --session audit

clean: ## away with .venv, caches and reports; the pulumi in the user's cache folder stays
	@rm -rf .venv .venv-* .nox .coverage .coverage.* htmlcov dist dist-plugin site .hypothesis \
	  .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# uv is locked as well, so pip gets it first. Where only pip is told of a package mirror, pip goes on alone.
$(READY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	  echo "setup: Python 3.10 or later is needed, and '$(PYTHON)' is: $$($(PYTHON) -V 2>&1 | head -n 1)" >&2; \
	  echo "setup: install one and name it, for example: make setup PYTHON=python3.12" >&2; exit 1; }
	@[ "$$($(BIN)/python -VV 2>/dev/null)" = "$$($(PYTHON) -VV)" ] || { \
	  echo "setup: $(VENV) with $$($(PYTHON) -V); about a minute, and minutes more where pulumi has to be built" \
	  && rm -rf $(VENV) && $(PYTHON) -m venv $(VENV); }
	@echo "setup: the packages of requirements/dev.txt ..." && start=$$(date +%s) \
	  && awk '/^[a-z]/ { wanted = /^uv==/ } wanted' requirements/dev.txt > $(VENV)/uv.txt \
	  && $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.txt \
	  && { VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r requirements/dev.txt \
	       || $(BIN)/python -m pip install --require-hashes -r requirements/dev.txt; } \
	  && $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e . \
	  && echo "setup: the packages of requirements/dev.txt: $$(($$(date +%s) - start)) s"
	@rm -f $(VENV)/ready-* && touch $@
