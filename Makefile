# `make demo` and `make test` do everything on a fresh machine; every other target depends on setup and does nothing twice.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo test lint differential mutants bench soak clean

setup: $(STAMP)

$(STAMP): setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@

demo: setup
	$(BIN)/mosn-xds demo

# Real processes on a shared machine: what fails is tried again, and named in the summary all the same.
test: setup
	$(BIN)/python -m pytest -m 'not soak' --reruns 2

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

differential: setup
	$(BIN)/python -m pytest tests/differential

# Every differential case fails when its behaviour is switched off.
mutants: setup
	$(BIN)/python -m tests.mutation.run

bench: setup
	$(BIN)/python -m bench

soak: setup
	$(BIN)/python -m pytest -m soak

clean:
	rm -rf $(VENV) build dist *.egg-info
