# `make help` lists what there is. Everything runs from .venv; nothing needs to be activated.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest

# .venv is good for one lock, one pyproject.toml and one Python: the stamp's name carries all three.
KEY   := $(shell { cat requirements/dev.txt pyproject.toml; $(PYTHON) -VV; } 2>/dev/null | cksum | tr ' ' -)
READY := $(VENV)/ready-$(KEY)

.DEFAULT_GOAL := help
.PHONY: help demo setup test unit plugin e2e chaos bench compat lint lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: setup ## a machine from nothing to gone against the emulator: no key, no bill
	@$(BIN)/python tools/demo.py

setup: $(READY) ## .venv with the locked packages and a pulumi CLI; seconds when already there
	@$(BIN)/python tools/pulumi-cli/install.py $(BIN)

$(READY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	  echo "Python 3.10 or later is needed, and '$(PYTHON)' is $$($(PYTHON) -V 2>&1 | head -1)." \
	       "Install one and name it: make setup PYTHON=python3.12" >&2; exit 1; }
	@echo "setup: $(VENV) with $$($(PYTHON) -V)"
	@rm -rf $(VENV) && $(PYTHON) -m venv $(VENV)
	@start=$$(date +%s) \
	  && awk '/^[a-z]/ { wanted = /^uv==/ } wanted' requirements/dev.txt > $(VENV)/uv.txt \
	  && $(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.txt \
	  && { VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --require-hashes -r requirements/dev.txt \
	       || $(BIN)/pip install --require-hashes -r requirements/dev.txt; } \
	  && $(BIN)/pip install --quiet --no-build-isolation --no-deps -e . \
	  && echo "setup: the locked packages took $$(($$(date +%s) - start)) s"
	@touch $@
