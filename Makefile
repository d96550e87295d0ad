# Everything runs inside .venv, which these targets make and keep up to date. `make help` lists them.

PYTHON ?= python3
JOBS ?= 2
# Parallel test processes.

VENV := .venv
BIN := $(VENV)/bin
ROOTS := artifacts transforms platform jobs

# Packages come from .venv and from nowhere else.
unexport PYTHONPATH PYTHONHOME
export PYTHONNOUSERSITE := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: bench clean demo doctest help lint test test-gpu type

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /\1\t/' | sort | awk -F '\t' '{printf "  make %-8s %s\n", $$1, $$2}'

demo: $(VENV)/.core ## Prepare the flights of New York, 2013, train two models, score with both
	$(BIN)/featuremill demo

test: lint type doctest ## Check everything: lint, types, examples in docstrings, tests
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

test-gpu: $(VENV)/.dev ## Run the paths for GPUs on a GPU; docs/gpus.md says what to install
	FEATUREMILL_GPU_TESTS=1 $(BIN)/python -m pytest tests/gpu

lint: $(VENV)/.dev ## Check the style
	$(BIN)/ruff check .

type: $(VENV)/.dev ## Check the types
	$(BIN)/mypy

doctest: $(VENV)/.dev ## Run the examples in docstrings
	$(BIN)/python -m pytest --doctest-modules $(ROOTS)

bench: $(VENV)/.dev ## Measure against Polars, DuckDB, scikit-learn and the stock MLTransform
	$(BIN)/python benchmarks/run.py

clean: ## Remove what builds and tests leave behind; .venv stays
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find $(ROOTS) tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is as new as the installation that it stands for: changed requirements install again, others do not.
$(VENV)/.core: pyproject.toml setup.py constraints.txt | $(BIN)/python
	@echo "Installing featuremill [demo] into $(VENV) (a minute or two, once)"
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[demo]"
	@touch $@

$(VENV)/.dev: pyproject.toml setup.py constraints.txt | $(BIN)/python
	@echo "Installing featuremill [dev] into $(VENV) (a minute or two, once)"
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@ $(VENV)/.core

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not there. Install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "featuremill needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Name another: make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
