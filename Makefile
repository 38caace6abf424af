# Each target sets up what it needs in .venv; the plain pip lines stand in the README.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint site nightly-scale clean

demo: .venv/installed
	$(BIN)/cliptune demo

test: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

site: .venv/installed-dev
	$(BIN)/python -m sphinx -q -W --keep-going docs build/site
	@echo "The site lies in build/site/index.html."

# Long runs, large data, full disks, shared folders, lost nodes (docs/reliability-scale.md).
CAMPAIGN := OMP_NUM_THREADS=1 $(BIN)/python -m tools.reliability

nightly-scale: .venv/installed-dev
	$(CAMPAIGN).full_disk
	$(CAMPAIGN).clocks
	$(CAMPAIGN).large
	$(CAMPAIGN).slow_disk
	$(CAMPAIGN).shared_folder
	$(CAMPAIGN).ray_kills

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/installed-dev: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@ .venv/installed

clean:
	rm -rf .venv build/site
