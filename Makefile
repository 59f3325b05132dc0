PYTHON ?= python3
UV ?= uv
BIN := .venv/bin

.PHONY: help env test test-slow test-long test-lowest docs tutorials tutorials-check reproduce reproduce-full release-check format lock clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 17

env: .venv/.installed ## create .venv: the locked dependencies and this package, editable

.venv/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "hopjax needs Python 3.11 or newer, and $(PYTHON) is %d.%d: try make PYTHON=python3.11 ..." % sys.version_info[:2])'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

test: env ## check format, lint and types, then run the fast tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/python -m pytest

test-slow: env ## run the tests that take more than about a second each
	$(BIN)/python -m pytest -m "slow and not long"

test-long: env ## run the longest tests, up to minutes each
	$(BIN)/python -m pytest -m long

# pandas comes with xarray, whose oldest version here is older than pandas 3.
LOWEST := import tomllib; print(*(each.replace(">=", "==") for each in tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"]), "pandas<3", sep="\n")

test-lowest: ## run the fast tests with the oldest dependencies that pyproject.toml allows
	$(PYTHON) -m venv build/lowest
	$(PYTHON) -c '$(LOWEST)' > build/lowest.txt
	build/lowest/bin/python -m pip install --quiet --disable-pip-version-check -r build/lowest.txt pytest pytest-xdist beartype hatchling distributed altair vl-convert-python
	build/lowest/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	build/lowest/bin/python -m pytest -W ignore::DeprecationWarning # of what they stand on

docs: env ## build the site into build/site, without a network
	$(BIN)/python docs/build.py

tutorials: env ## run the tutorials that changed, and write what they print and draw into them
	$(BIN)/python -m docs.examples $(TUTORIALFLAGS)

tutorials-check: env ## run all tutorials, whole, and compare with what they say
	$(BIN)/python -m docs.examples --check

reproduce: env ## redraw the figures, quickly
	$(BIN)/python -m experiments.reproduce

reproduce-full: env ## redraw the figures at full size
	$(BIN)/python -m experiments.reproduce --full

release-check: ## build the packages, check them, and run the README with the wheel alone
	rm -rf dist build/release build/wheel
	$(PYTHON) -m venv build/release
	build/release/bin/python -m pip install --quiet --disable-pip-version-check build twine
	build/release/bin/python -m build
	build/release/bin/python -m twine check --strict dist/*
	$(PYTHON) -m venv build/wheel
	build/wheel/bin/python -m pip install --quiet --disable-pip-version-check dist/*.whl
	cd build && wheel/bin/hopjax info
	build/wheel/bin/python .ci/release.py $(TAG)

format: env ## format the code and fix what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: ## renew requirements.lock (needs uv); LOCKFLAGS=--upgrade takes the newest versions
	$(UV) pip compile pyproject.toml --group dev --extra docs --extra report --output-file requirements.lock \
	    --universal --python-version 3.11 --fork-strategy fewest \
	    --no-emit-index-url --custom-compile-command 'make lock' $(LOCKFLAGS)

clean: ## remove .venv, caches and build products
	rm -rf .venv .pytest_cache .ruff_cache build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
