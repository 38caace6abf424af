# Each target sets up what it needs in .venv; the plain pip lines stand in the README.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint site nightly nightly-scale oldest newest clean

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

# What takes too long for every change: many more cases for every reader of outside content (docs/reliability.md), and
# a look at the dependencies. The day is the seed, so every night has cases of its own.
nightly: .venv/installed-dev nightly-scale
	CLIPTUNE_FUZZ_CASES=2000 CLIPTUNE_FUZZ_SEED=$$(date +%Y%m%d) OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/fuzz
	$(BIN)/python tools/dependencies.py licences
	$(BIN)/python tools/dependencies.py audit

# The tests on the oldest and on the newest releases that pyproject.toml allows, each in an environment of its own.
# pyenv leaves a python3.10 on the path that only says how to get one.
OLDEST_PYTHON ?= $(shell python3.10 -c 'import sys; print(sys.executable)' 2>/dev/null || echo $(PYTHON))

oldest: .venv/installed-dev
	$(BIN)/python tools/dependencies.py oldest > .venv/oldest.txt
	$(OLDEST_PYTHON) -m venv .venv/oldest
	.venv/oldest/bin/python -m pip install --quiet --constraint .venv/oldest.txt --editable \
		".[doctor,formats,report,onnx,serve,parquet]" pytest hypothesis packaging playwright httpx
	OMP_NUM_THREADS=1 .venv/oldest/bin/python -m pytest --ignore tests/sweep/test_ray_engine.py

newest:
	$(PYTHON) -m venv --clear .venv/newest
	.venv/newest/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager --editable '.[dev]'
	OMP_NUM_THREADS=1 .venv/newest/bin/python -m pytest
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
