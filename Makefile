# Everything runs inside .venv, which these targets make and keep up to date. `make help` lists them.

PYTHON ?= python3
JOBS ?= 2
# Parallel test processes.

VENV := .venv
BIN := $(VENV)/bin
ROOTS := artifacts transforms platform jobs

# BigQuery, S3 and Cloud Storage on this machine, for tests and a demo. They need other versions of libraries.
SERVERS := .venv-servers

# Packages come from .venv and from nowhere else.
unexport PYTHONPATH PYTHONHOME
export PYTHONNOUSERSITE := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: bench clean demo demo-bigquery doctest help lint servers test test-gpu type

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /\1\t/' | sort | awk -F '\t' '{printf "  make %-13s %s\n", $$1, $$2}'

demo: $(VENV)/.core ## Prepare the flights of New York, 2013, train two models, score with both
	$(BIN)/featuremill demo

demo-bigquery: $(VENV)/.core $(SERVERS)/.ready ## Prepare the flights from a BigQuery table, on a server of this machine
	PYTHONPATH=tests $(BIN)/python -m support.demo_bigquery

test: lint type doctest $(SERVERS)/.ready ## Check everything: lint, types, examples in docstrings, tests
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

test-gpu: $(VENV)/.dev ## Run the paths for GPUs on a GPU; docs/gpus.md says what to install
	FEATUREMILL_GPU_TESTS=1 $(BIN)/python -m pytest tests/gpu

lint: $(VENV)/.dev ## Check the style
	$(BIN)/ruff check .

type: $(VENV)/.dev ## Check the types
	$(BIN)/mypy

doctest: $(VENV)/.dev ## Run the examples in docstrings
	$(BIN)/python -m pytest --doctest-modules $(ROOTS)

servers: $(SERVERS)/.ready ## Install the local servers that the tests use

bench: $(VENV)/.dev ## Measure against Polars, DuckDB, scikit-learn and the stock MLTransform
	$(BIN)/python benchmarks/run.py

clean: ## Remove what builds and tests leave behind; .venv and .venv-servers stay
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find $(ROOTS) tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is as new as the installation that it stands for: changed requirements install again, others do not.
$(VENV)/.core: pyproject.toml setup.py constraints.txt | $(BIN)/python
	@echo "Installing featuremill [demo,gcp] into $(VENV) (a minute or two, once)"
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[demo,gcp]"
	@touch $@

$(VENV)/.dev: pyproject.toml setup.py constraints.txt | $(BIN)/python
	@echo "Installing featuremill [dev] into $(VENV) (a minute or two, once)"
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@ $(VENV)/.core

# The extensions of DuckDB come as packages, since its own server may be out of reach; they belong into a home folder.
$(SERVERS)/.ready: constraints-servers.txt | $(BIN)/python
	@echo "Installing BigQuery, S3 and Cloud Storage servers into $(SERVERS) (a minute, once)"
	$(BIN)/python -m venv --clear $(SERVERS)
	$(SERVERS)/bin/pip install --quiet --requirement constraints-servers.txt
	@mkdir -p $(SERVERS)/home
	HOME=$(CURDIR)/$(SERVERS)/home $(SERVERS)/bin/python -c \
		'from duckdb_extensions import import_extension as add; add("spatial"); add("avro")'
	@touch $@

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not there. Install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "featuremill needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Name another: make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
