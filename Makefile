# `make` alone lists what there is. Needs Python 3.11, make and git; everything else comes with the environment.
# GNU make ends with 2 whenever a recipe fails, and prints the recipe's own code ("Error 3"). A script that needs the
# code itself calls the flow directly: .venv/bin/python -m flows.retrain

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Processes of `make test`, each with one file of tests at a time, which may take 3 GB.
TEST_WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help venv retrain test lint types format bench soak serve repro services-up services-down

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(STAMP)  ## make .venv and install what is locked in constraints.txt

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not there; install it, or: make PYTHON=/path/to/python3.11"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

retrain: $(STAMP)  ## videos in, registered model out; only what changed is built
	@$(BIN)/kineflow services up
	@$(BIN)/python -m flows.retrain

repro: $(STAMP)  ## the same build by DVC alone, with no server of any kind
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/dvc repro

serve: $(STAMP)  ## serve the flows with their schedules on a local Prefect server, until Ctrl-C
	@$(BIN)/python -m flows.serve

services-up: $(STAMP)  ## start the embedded services
	@$(BIN)/kineflow services up

services-down: $(STAMP)  ## stop the embedded services
	@$(BIN)/kineflow services down

test: $(STAMP)  ## the test suite
	@$(BIN)/python -m pytest -q -m 'not soak' -n $(TEST_WORKERS) --dist loadfile

soak: $(STAMP)  ## what takes long: many kills, real data sets, several seeds
	@$(BIN)/python -m pytest -q -s -m soak

bench: $(STAMP)  ## benchmarks against a bare reference in the same run
	@$(BIN)/python -m benchmarks

lint: $(STAMP)  ## ruff and the import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-logo

types: $(STAMP)  ## mypy
	@$(BIN)/mypy

format: $(STAMP)  ## rewrite the code as ruff wants it
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
