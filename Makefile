# The ways in. `make help` prints the targets with the comments behind `##`, `make help-all` also those behind `##+`.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
SHELL := /bin/sh
PYTHON ?= python3
PORT ?= 8000
PY := .venv/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --quiet
CHECKED := src tools tests benchmarks notebooks book/_ext course

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s%s\n", $$1, $$2 }' Makefile
	@echo
	@echo "  PYTHON=python3.12        another Python (3.11 to 3.13), at the first make"
	@echo "  TORCH_INDEX=<address>    take torch from there, such as a build without CUDA"
	@echo "  CHAPTER=02               one chapter; it runs even if it is up to date"
	@echo "  PROFILE=quick IMAGE=my.png SIZE=96 SEED=1 DEVICE=cpu"
	@echo "                           parameters; such runs go to _build/runs/"

.PHONY: help-all
help-all: ## every command, those for who works on the book too
	@awk -F ':.*##\\+? ' '/^[a-z-]+:.*##\+? / { printf "  make %-20s%s\n", $$1, $$2 }' Makefile

.PHONY: book
book: .venv/.installed ## run what is not up to date, then build the pages
	@$(PY) -m tools.execute
	@$(PY) -m tools.build

.PHONY: test
test: .venv/.installed tests/js/node_modules/.installed browser ## everything that must hold
	@$(MAKE) checks
	@echo "tests"
	@$(PY) -m pytest -q -m "not long"
	@$(MAKE) test-notebooks

.PHONY: test-nobrowser
test-nobrowser: .venv/.installed tests/js/node_modules/.installed ## the same without the tests that need a browser
	@$(MAKE) checks
	@echo "tests, without a browser"
	@$(PY) -m pytest -q -m "not browser and not long"
	@$(MAKE) test-notebooks

.PHONY: pdf
pdf: .venv/.installed browser ## print the whole book to _build/book.pdf
	@$(PY) -m tools.build
	@$(PY) -m tools.pdf

.PHONY: zip
zip: .venv/.installed ## pack the built pages to take along: _build/book.zip
	@$(PY) -m tools.build
	@$(PY) -m tools.archive

.PHONY: site
site: .venv/.installed browser ##+ all that is published, in _build/site: pages, PDF and zip
	@$(MAKE) pdf zip
	@rm -rf _build/site && cp -R _build/html _build/site
	@cp _build/book.pdf _build/book.zip _build/site/
	@echo "_build/site is what goes online"

.PHONY: linkcheck
linkcheck: .venv/.installed ##+ links within the book must hold; links to elsewhere are warned about
	@$(PY) -m tools.build
	@$(PY) -m tools.linkcheck

.PHONY: test-upgraded
test-upgraded: ##+ the whole test with the newest versions allowed, torch as pinned
	@$(MAKE) lock UPGRADE=1
	@$(MAKE) test

.PHONY: test-long
test-long: .venv/.installed browser ##+ what takes too long for every day: the whole book as a PDF, and the like
	@$(PY) -m tools.build
	@$(PY) -m pytest -q -m long

.PHONY: test-colab
test-colab: .venv/.installed ##+ install cell and notebooks with Colab's libraries
	@$(PY) -m tools.environments colab --python "$(PYTHON)" $${TORCH:+--torch "$$TORCH"}

.PHONY: colab-env
colab-env: .venv/.installed ##+ only Colab's libraries, in .venv-colab
	@$(PY) -m tools.environments colab-env --python "$(PYTHON)" $${TORCH:+--torch "$$TORCH"}

.PHONY: test-lowest
test-lowest: .venv/.installed ##+ the package's tests with the lowest versions allowed, torch as pinned
	@$(PY) -m tools.environments lowest --python "$(PYTHON)"

.PHONY: test-newest
test-newest: .venv/.installed ##+ the package's tests with the newest versions allowed, torch as pinned
	@$(PY) -m tools.environments newest --python "$(PYTHON)"

.PHONY: test-clean
test-clean: .venv/.installed ##+ the package alone, as a stranger installs it
	@$(PY) -m tools.environments clean --python "$(PYTHON)"

.PHONY: checks
checks: lint types scripts fresh
	@$(PY) -m tools.address
	@$(PY) -m tools.build

.PHONY: lint
lint: .venv/.installed ##+ style and format
	@$(PY) -m ruff check --quiet --output-format concise $(CHECKED)
	@$(PY) -m ruff format --check --quiet $(CHECKED)
	@echo "style and format are right"

.PHONY: types
types: .venv/.installed ##+ types, in the notebooks too
	@$(PY) -m mypy --no-error-summary src tools tests benchmarks book/_ext/*.py
# Copies, since nbqa writes beside the notebooks and leaves that behind when interrupted.
	@rm -rf _build/types && mkdir -p _build/types && cp notebooks/*.ipynb _build/types
	@$(PY) -m nbqa mypy --no-error-summary --no-color-output \
	  --allow-untyped-defs --allow-untyped-calls --allow-redefinition _build/types/*.ipynb
	@echo "types are right"

.PHONY: scripts
scripts: tests/js/node_modules/.installed ##+ types, style and format of the figures' scripts
	@cd tests/js && node node_modules/typescript/bin/tsc -p .
	@cd tests/js && node_modules/.bin/biome check --config-path=. --error-on-warnings --log-level=error \
	  ../../src/dipfilters/figures ../../book/_static
	@echo "scripts are right"

# Node comes with the Python packages of the lock, and stands first in the path of what needs it.
scripts tests/js/node_modules/.installed test test-nobrowser: export PATH := $(CURDIR)/.venv/bin:$(PATH)
tests/js/node_modules/.installed: tests/js/package-lock.json .venv/.installed
	@echo "installing what checks the figures' scripts"
	@cd tests/js && npm ci --silent
	@touch $@

.PHONY: fresh
fresh: .venv/.installed ##+ name the notebooks that are not up to date, and why
	@$(PY) -m tools.fresh

.PHONY: test-notebooks
test-notebooks: .venv/.installed ##+ every notebook at the quick profile, cell by cell
	@echo "notebooks at the quick profile"
	@$(PY) -m tools.quick
	@$(PY) -m pytest -q -c tests/nbval.ini --rootdir=. \
	  --nbval-lax --nbval-current-env --nbval-sanitize-with tests/nbval.cfg \
	  --junitxml=_build/quick/report.xml _build/quick

.PHONY: execute
execute: .venv/.installed ## run notebooks, as published or with parameters
	@$(PY) -m tools.execute $${CHAPTER:+"$$CHAPTER"} --from "$$CALLER" \
	  $${PROFILE:+--set "profile=$$PROFILE"} $${IMAGE:+--set "image=$$IMAGE"} $${SIZE:+--set "size=$$SIZE"} \
	  $${SEED:+--set "seed=$$SEED"} $${DEVICE:+--set "device=$$DEVICE"}
# The caller's folder, also under `make -C`: make itself is elsewhere by now.
execute: export CALLER := $(PWD)

.PHONY: recheck-runs
recheck-runs: .venv/.installed ##+ compare stored runs with the code of now
# One thread, as when they were made: sums in another order lead chaotic training elsewhere.
	@OMP_NUM_THREADS=1 $(PY) -m tools.recheck

.PHONY: bench
bench: .venv-bench/.installed browser ## measure speed against other libraries, 15 minutes
	@$(PY) -m tools.build
	@.venv-bench/bin/python -m benchmarks.suite
	@$(PY) -m benchmarks.figures

.PHONY: bench-quick
bench-quick: .venv-bench/.installed ##+ the same on less work, under 3 minutes; keeps nothing
	@.venv-bench/bin/python -m benchmarks.suite --quick

# Peers pin old libraries, and stay out of the book's environment.
.venv-bench/.installed: .venv/.installed benchmarks/requirements.txt
	@echo "installing what the benchmarks compare with into .venv-bench"
	@$(PYTHON) -m venv --clear .venv-bench
	@grep -E '^(torch|numpy|numba|scipy|scikit-image|jaxtyping|matplotlib|tqdm|pillow|nbformat|ipython|pyyaml)==' requirements.lock \
	  > .venv-bench/constraints.txt
	@.venv-bench/bin/python -m pip --disable-pip-version-check --quiet install \
	  -r .venv-bench/constraints.txt -r benchmarks/requirements.txt
	@.venv-bench/bin/python -m pip --disable-pip-version-check --quiet install --no-deps -e .
	@touch .venv-bench/.installed

.PHONY: address
address: .venv/.installed ## bring install cells and links into step with _config.yml
	@$(PY) -m tools.address --write

.PHONY: browser
browser: .venv/.installed ##+ find the browser for the tests
	@$(PY) -m tools.browser

.PHONY: serve
serve: ## serve the built book on this machine
	@test -f _build/html/index.html || { echo "no book yet: make book" >&2; exit 1; }
	@echo "http://127.0.0.1:$(PORT)/ (end with Ctrl-C)"
	@$(PY) -m http.server --bind 127.0.0.1 --directory _build/html $(PORT)

.PHONY: lab
lab: .venv/.installed ## open the notebooks in JupyterLab
	@$(PY) -m jupyterlab --notebook-dir=.

.PHONY: slides
slides: .venv/.installed ## make a deck of slides of each chapter
	@$(PY) -m tools.slides

.PHONY: lock
lock: ##+ resolve requirements.lock; UPGRADE=1 takes the newest
	@$(PYTHON) -m venv _build/uv && _build/uv/bin/python -m pip --quiet install uv
	@cp requirements.lock _build/requirements.lock
	@_build/uv/bin/python -m uv pip compile --quiet --universal --python-version 3.11 --extra book --extra test \
	  --no-annotate --no-header --no-emit-index-url --no-emit-find-links $(if $(UPGRADE),--upgrade) \
	  --output-file _build/requirements.lock pyproject.toml
# A torch with CUDA brings its libraries itself, and the one without needs none.
	@grep -Ev '^(nvidia-|cuda-|triton)' _build/requirements.lock > requirements.lock.new
	@mv requirements.lock.new requirements.lock

.PHONY: clean
clean: ## remove everything generated, the environment apart
	@rm -rf _build .mypy_cache .pytest_cache .ruff_cache .hypothesis

# The environment. What is half made is made again; the stamp comes last.
ifneq ($(TORCH_INDEX),)
ifneq ($(TORCH_INDEX),$(shell cat .venv/.torch-index 2>/dev/null))
.PHONY: .venv/.installed
endif
endif
.venv/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "$(PYTHON) is missing, or not Python 3.11 to 3.13; name one that is: PYTHON=python3.12 make book" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make environments: apt install python3-venv, then again" >&2; exit 1; }
	@$(PY) -m pip --version >/dev/null 2>&1 || { echo "making .venv"; $(PYTHON) -m venv --clear .venv; }
	@echo "installing the libraries of requirements.lock into .venv; the first time takes minutes"
	@if [ -n "$$TORCH_INDEX" ]; then \
	  $(PIP) install --force-reinstall --no-deps --index-url "$$TORCH_INDEX" "$$(grep '^torch==' requirements.lock)" && \
	  echo "$$TORCH_INDEX" > .venv/.torch-index; fi
	@$(PIP) install -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch .venv/.installed
