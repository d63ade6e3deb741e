# One-line targets; each does its own set-up in $(VENV). `make help` lists them.
VENV ?= .venv
# A Python of 3.11 or newer; empty: the first suitable one on the PATH.
PYTHON ?=
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -q -c constraints.txt

.PHONY: help demo ui test test-fast check docs bench cluster-demo constraints clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: $(VENV)/.base ## two days from the simulated archive to shards, and a picture of the Sun
	$(BIN)/python -m sdoml_demo.tour

ui: $(VENV)/.base ## Dagster's web UI and daemon on the simulated archive
	$(BIN)/python -m sdoml_demo.ui

test: $(VENV)/.dev ## all tests
	@$(BIN)/python -m tests.support.requirements
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test-fast: $(VENV)/.dev ## the tests without whole runs and services: an answer in 90 seconds
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

check: $(VENV)/.dev ## lint, format, types and import rules
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

docs: $(VENV)/.docs ## the documentation, strictly, into site/
	$(BIN)/mkdocs build --strict

bench: $(VENV)/.dev ## the benchmark of the pipeline against the original's way of working
	$(BIN)/python -m benchmarks.pipeline

cluster-demo: $(VENV)/.dev ## a cluster of network namespaces, with a killed worker and a cut link (as root)
	$(BIN)/python -m tests.cluster.demo

constraints: $(VENV)/.dev $(VENV)/.docs ## pin what is installed now
	$(BIN)/python -m pip freeze --exclude-editable | sed -E 's/\+cpu$$//' > constraints.txt

clean: ## remove what the targets made, but not ./data
	rm -rf $(VENV) .demo site build dist *.egg-info

$(BIN)/python:
	@sh tools/create_venv.sh "$(VENV)" "$(PYTHON)"

$(VENV)/.base: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[pipeline]' && touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[dev]' && touch $@ $(VENV)/.base

$(VENV)/.docs: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[docs]' && touch $@
