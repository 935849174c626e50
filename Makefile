# Every target does its own set-up: on a fresh machine `make demo` or `make test` is all there is to type.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test check bench docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## create .venv with all that the demo and the tests need

demo: $(STAMP) ## simulate, serve and compare on this machine, with a real small model
	@$(BIN)/python -m headway demo

test: $(STAMP) ## formatting, lint, types, layers, then all tests
	@scripts/test

check: $(STAMP) ## formatting, lint, types and layers only
	@scripts/check

bench: $(STAMP) ## measure again the numbers that README and docs claim
	@scripts/bench

docs: $(STAMP) ## rewrite the generated tables in docs/
	@scripts/docs

clean: ## remove .venv and what tools left behind
	rm -rf $(VENV) build dist htmlcov .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find src tests scripts bench examples -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is newer than both files once everything they name is installed: repeats are instant.
$(STAMP): pyproject.toml constraints.txt
	@scripts/install "$(PYTHON)" "$(VENV)"
	@touch $@
