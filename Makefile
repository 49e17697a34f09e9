# Everything runs in .venv, which the first target that needs it creates from constraints.txt.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
DATA ?= ../shared/real
ifneq ($(wildcard $(DATA)/BrainMRI),)
REAL := 'targets=[procedural,mvtec,brainmri]' paths.data=$(DATA)
endif

.DEFAULT_GOAL := help
.PHONY: help setup test test-fast lint format check demo app docs studies wheel clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

setup: .venv/dev  ## create .venv with pinned dependencies

# What each needs and no more; a larger one holds the smaller ones.
.venv/demo: EXTRAS := [report]
.venv/demo: HELD := .venv/demo
.venv/test: EXTRAS := [test]
.venv/app: EXTRAS := [app]
.venv/app: HELD := .venv/demo .venv/app
.venv/test: HELD := .venv/demo .venv/app .venv/test
.venv/dev: EXTRAS := [dev]
.venv/dev: HELD := .venv/demo .venv/app .venv/test .venv/dev
.venv/demo .venv/app .venv/test .venv/dev: pyproject.toml constraints.txt | .venv
	@$(BIN)/python scripts/install.py --constraint constraints.txt --editable '.$(EXTRAS)'
	@touch $(HELD)

.venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"Python 3.11 or newer is needed, found {sys.version}")'
	$(PYTHON) -m venv .venv

# The tests of a file run in one process, so that what they share is made once. (Groups, which could be smaller, are spread
# all the same by xdist 3.8 with pytest 9.2.) Compiled once for all, also where Python may not keep what it compiles.
PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test: .venv/test  ## run all tests
	$(PYTEST)

test-fast: .venv/test  ## what to run while developing: all but the slow tests
	$(PYTEST) --loadscope-reorder -m 'not slow'

lint: setup  ## style, types, and who imports whom
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup  ## let ruff rewrite what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: lint test  ## what CI checks

demo: .venv/demo  ## five ways to detect anomalies side by side, in minutes; on real images too where they are at hand
	@echo "Renders images, then trains and scores two runs at a time: about four minutes on two cores."
	@OMP_NUM_THREADS=1 $(BIN)/python scripts/demo.py $(REAL)

app: .venv/app  ## a page to drop images into, with rendered examples and the packaged detector
	@$(BIN)/cops-app

studies: setup  ## four studies over the packaged backbone and their report: some 20 minutes on two cores
	$(STUDY)=seed_variance
	$(STUDY)=auxiliary_choice seed=0,1,2
	$(STUDY)=static_prompts callbacks.diagnostics=null
	$(STUDY)=ablations seed=0,1,2 callbacks.diagnostics=null
	$(BIN)/cops-report runs/studies --out runs/studies/report --title 'Four studies over the demonstration backbone' --published 1.4

# In one folder, so that what two studies share is computed once.
STUDY = OMP_NUM_THREADS=1 $(BIN)/cops-train -m study=studies hydra/launcher=processes callbacks.heat_maps.count=0 \
	data.eval_batch_size=64 experiment

docs: .venv/test  ## build the documentation into site/, and check its links
	@$(BIN)/python scripts/build_docs.py

wheel: setup  ## build the wheel into dist/, check it, and import it in an empty environment
	rm -rf dist
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .
	$(BIN)/twine check --strict dist/*.whl
	$(BIN)/python scripts/check_wheel.py dist/*.whl

clean:  ## remove the environment and caches; runs/ stays
	rm -rf .venv dist build site .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
