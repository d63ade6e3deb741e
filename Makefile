# Each target installs what it needs into $(VENV). `make help` lists the targets.
VENV ?= .venv
# Python 3.11 or newer. If empty, the first suitable Python on the PATH is used.
PYTHON ?=
BIN := $(VENV)/bin
# With compiled bytecode, the project's processes start faster.
unexport PYTHONDONTWRITEBYTECODE
PIP := $(BIN)/python -m pip --disable-pip-version-check install -q -c constraints.txt

.PHONY: help demo ui test test-fast check docs bench cluster-demo constraints clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: $(VENV)/.base ## build two days from the simulated archive, and draw the Sun
	$(BIN)/python -m sdoml_demo.tour

ui: $(VENV)/.base ## run Dagster's web UI and daemon on the simulated archive
	$(BIN)/python -m sdoml_demo.ui

test: $(VENV)/.dev ## run all tests
	@$(BIN)/python -m tests.support.requirements
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test-fast: $(VENV)/.dev ## run only tests without pipeline runs, releases or services, in about 90 seconds
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

check: $(VENV)/.dev ## check lint, format, types and import rules
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

docs: $(VENV)/.docs ## build the documentation into site/; warnings are errors
	$(BIN)/mkdocs build --strict

bench: $(VENV)/.dev ## compare the pipeline with the method of the original SDOML-lite
	$(BIN)/python -m benchmarks.pipeline

cluster-demo: $(VENV)/.dev ## run a simulated cluster, kill a worker and cut a link (as root)
	$(BIN)/python -m tests.cluster.demo

constraints: $(VENV)/.dev $(VENV)/.docs ## pin the installed versions
	$(BIN)/python -m pip freeze --exclude-editable | sed -E 's/\+cpu$$//' > constraints.txt

clean: ## remove what the targets created, but not ./data
	rm -rf $(VENV) .demo site build dist *.egg-info

$(BIN)/python:
	@sh tools/create_venv.sh "$(VENV)" "$(PYTHON)"

$(VENV)/.base: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[pipeline]' && touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[dev]' && touch $@ $(VENV)/.base

$(VENV)/.docs: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[docs]' && touch $@
