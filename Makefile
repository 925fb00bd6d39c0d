# Everything runs inside .venv, which the first target that needs it sets up. Needed: Python 3.11 or newer, make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CODE := src tests examples bench docs
# What follows a target: make test ARGS="-k breaker", make demo ARGS=--real
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install test check format format-check lint types imports docs generate examples demo bench bench-queues bench-queue-peers coverage mutants soak constraints clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP)  ## Set up .venv with everything for development

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found; name a Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $$($(PYTHON) --version) is too old; name a Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable . --group dev
	@touch $@

test: $(STAMP)  ## Run the whole suite; ARGS go to pytest
	$(BIN)/pytest $(ARGS)

check: format-check lint types imports docs examples test  ## All that CI runs

format: $(STAMP)  ## Format the code and mend what can be mended
	$(BIN)/ruff format $(wildcard $(CODE))
	$(BIN)/ruff check --fix $(wildcard $(CODE))

format-check: $(STAMP)  ## Check the format
	$(BIN)/ruff format --check $(wildcard $(CODE))

lint: $(STAMP)  ## Lint
	$(BIN)/ruff check $(wildcard $(CODE))

types: $(STAMP)  ## Check types, with two checkers
	$(BIN)/mypy
	$(BIN)/basedpyright

imports: $(STAMP)  ## Check who imports whom
	$(BIN)/lint-imports

docs: $(STAMP)  ## Build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

generate: $(STAMP)  ## Rewrite the parts of the documentation that come from the code
	$(BIN)/python docs/_generate.py

examples: $(STAMP)  ## Run the examples
	@for example in $(filter-out %/__init__.py,$(wildcard examples/*.py)); do \
		echo "$$example"; ENVIRONMENT=development $(BIN)/python "$$example" || exit 1; \
	done

demo: $(STAMP)  ## Run the demo: an outage survived, nothing lost; ARGS=--real asks a real provider
	$(BIN)/python -m examples.demo $(ARGS)

bench: $(STAMP)  ## Measure against the peers, each in an environment of its own
	$(BIN)/python bench/run.py $(ARGS)

bench-queues: $(STAMP)  ## Measure a queue: ARGS="--backend sqlite", redis or memory
	$(BIN)/python bench/queues.py $(ARGS)

bench-queue-peers: $(STAMP)  ## Measure the queue in Redis against its peers, each in an environment of its own
	$(BIN)/python bench/queue_peers.py $(ARGS)

coverage: $(STAMP)  ## Run the suite and show lines and branches it misses
	$(BIN)/pytest --cov --cov-report=term-missing $(ARGS)

mutants: $(STAMP)  ## Change the Redis scripts one point at a time and tell what no test notices; ARGS="--sample 100"
	$(BIN)/python -m tests.mutants.run $(ARGS)

soak: $(STAMP)  ## Keep a queue busy for minutes and tell what grows; ARGS="--minutes 10 --backend sqlite"
	$(BIN)/python -m bench.soak $(ARGS)

constraints: $(STAMP)  ## Renew constraints.txt from the newest versions that fit
	$(BIN)/python -m pip install --quiet --upgrade --upgrade-strategy eager --editable . --group dev
	head -n 2 constraints.txt > $(VENV)/constraints.txt
	$(BIN)/python -m pip list --format=freeze --exclude llm-gateway --exclude setuptools >> $(VENV)/constraints.txt
	cp $(VENV)/constraints.txt constraints.txt

clean:  ## Remove what was made, .venv too
	rm -rf $(VENV) .bench .coverage .hypothesis .mutants .mypy_cache .pytest_cache .ruff_cache build dist htmlcov site
	find $(wildcard $(CODE)) -name __pycache__ -type d -prune -exec rm -rf {} +
