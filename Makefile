# The ways in. `make help` prints the targets with the comments behind `##`.
# Parameters come from make's command line alone: the lines below hide a variable of the same name in the
# environment. There TORCH_INDEX is looked for as well, which the workflows set.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
SHELL := /bin/sh
PYTHON := python3
PORT := 8000
BRANCH :=
BROWSER :=
CHAPTER :=
CLUSTER :=
DEVICE :=
IMAGE :=
LIBRARIES :=
NAME :=
PICTURES :=
PROFILE :=
QUICK :=
SEED :=
SIZE :=
TO :=
TORCH :=
UPGRADE :=
WORKERS :=

PY := .venv/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --quiet
NODE := tests/js/node_modules/.installed
CHECKED := src tools tests benchmarks studies notebooks book/_ext course noxfile.py
# One thread for each of the workers, which take the files of tests one by one.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1
PYTEST := $(ONE_THREAD) $(PY) -m pytest -q -n logical --maxprocesses 4 --dist loadfile
PACKAGE_TESTS := tests/engines tests/test_devices.py tests/test_low_rank.py $(wildcard $(patsubst src/dipfilters/%.py,tests/test_%.py,$(wildcard src/dipfilters/*.py)))
# A parameter as it was written, between quotes for the shell: quoted NAME, and given WORDS,NAME where it is set.
quoted = '$(subst ','\'',$(value $1))'
given = $(if $(value $2),$1$(call quoted,$2))

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s%s\n", $$1, $$2 }' Makefile
	@echo "PYTHON=python3.12 at the first make takes another Python, 3.11 to 3.13;"
	@echo "TORCH_INDEX=address another source of torch, such as one without CUDA."

.PHONY: book
book: .venv/.installed ## build the pages, and name the chapters that are out of date
	@$(PY) -m tools.build

.PHONY: execute
execute: .venv/.installed ## run these, or CHAPTER=02, or with IMAGE= PROFILE= SEED= ...
	@$(PY) -m tools.execute --from $(call quoted,PWD) $(call given,,CHAPTER) \
	  $(call given,--set profile=,PROFILE) $(call given,--set image=,IMAGE) $(call given,--set size=,SIZE) \
	  $(call given,--set seed=,SEED) $(call given,--set device=,DEVICE)

.PHONY: serve
serve: ## serve the built book on this machine, at PORT=8000
	@test -f _build/html/index.html || { echo "no book yet: make book" >&2; exit 1; }
	@echo http://127.0.0.1:$(call quoted,PORT)/ "(end with Ctrl-C)"
	@$(PY) -m http.server --bind 127.0.0.1 --directory _build/html $(call quoted,PORT)

.PHONY: lab
lab: .venv/.installed ## open the notebooks in JupyterLab
	@$(PY) -m jupyterlab --notebook-dir=.

.PHONY: pdf
pdf: .venv/.installed browser ## print the whole book to _build/book.pdf
	@$(PY) -m tools.build
	@$(PY) -m tools.pdf

.PHONY: zip
zip: .venv/.installed ## pack the built pages to take along: _build/book.zip
	@$(PY) -m tools.build
	@$(PY) -m tools.archive

.PHONY: slides
slides: .venv/.installed ## make a deck of slides of each chapter
	@$(PY) -m tools.slides

.PHONY: colab
colab: .venv/.installed ## write the notebooks as Colab opens them
	@$(PY) -m tools.for_colab

.PHONY: push-colab
push-colab: .venv/.installed
	@$(PY) -m tools.for_colab --push

.PHONY: site
site: .venv/.installed browser ## all that is published, in _build/site: pages, PDF, zip
	@$(PY) -m tools.build --strict
	@$(MAKE) pdf zip
	@rm -rf _build/site && cp -R _build/html _build/site
	@cp _build/book.pdf _build/book.zip _build/site/
	@echo "_build/site is what goes online"

.PHONY: address
address: .venv/.installed ## let the book name another repository: TO=owner/name
	@$(PY) -m tools.address $(call quoted,TO) $(call given,--branch ,BRANCH)

.PHONY: test
test: .venv/.installed $(NODE) $(if $(BROWSER),,browser) ## all that must hold; BROWSER=no: without Chrome
	@$(MAKE) checks
	@echo "tests"
	@$(PYTEST) -m "not long$(if $(BROWSER), and not browser)"
	@echo "notebooks at the quick profile"
	@$(PY) -m tools.quick
	@$(PYTEST) -c tests/nbval.ini --rootdir=. \
	  --nbval-lax --nbval-current-env --nbval-sanitize-with tests/nbval.cfg \
	  --junitxml=_build/quick/report.xml _build/quick

.PHONY: checks
checks: .venv/.installed $(NODE) ## of these: style, types, scripts, a strict build
	@$(PY) -m ruff check --quiet --output-format concise $(CHECKED)
	@$(PY) -m ruff format --check --quiet $(CHECKED)
	@echo "style and format are right"
	@$(PY) -m mypy --no-error-summary src tools tests benchmarks studies book/_ext/*.py noxfile.py
# Copies, since nbqa writes beside the notebooks and leaves that behind when interrupted.
	@rm -rf _build/types && mkdir -p _build/types && cp notebooks/*.ipynb _build/types
	@$(PY) -m nbqa mypy --no-error-summary --no-color-output \
	  --allow-untyped-defs --allow-untyped-calls --allow-redefinition --no-warn-unused-ignores _build/types/*.ipynb
	@echo "types are right"
	@cd tests/js && node node_modules/typescript/bin/tsc -p .
	@cd tests/js && node_modules/.bin/biome check --config-path=. --error-on-warnings --log-level=error \
	  ../../src/dipfilters/figures ../../book/_static
	@echo "scripts are right"
	@$(PY) -m tools.build --strict

.PHONY: test-package
test-package: .venv/.installed ## of these: the package's own tests
	@$(PYTEST) -m "not long and not browser" $(PACKAGE_TESTS)

.PHONY: test-long
test-long: .venv/.installed browser ## what takes too long for every day
	@$(PY) -m tools.build
	@$(ONE_THREAD) $(PY) -m pytest -q -m long

.PHONY: test-with
test-with: .venv/.installed ## with LIBRARIES=lowest, newest, colab or clean
	@$(PY) -m nox --session $(call quoted,LIBRARIES) -- $(call given,,TORCH)

.PHONY: linkcheck
linkcheck: .venv/.installed ## try every link; those to elsewhere are warned about
	@$(PY) -m tools.build
	@$(PY) -m tools.linkcheck

.PHONY: study
study: .venv/.installed ## run or resume a study: NAME=own-kernel, PROFILE= ...
	@$(ONE_THREAD) $(PY) -m studies $(call quoted,NAME) $(call given,--profile ,PROFILE) $(call given,--device ,DEVICE) \
	  $(call given,--cluster ,CLUSTER) $(call given,--workers ,WORKERS) $(call given,--pictures ,PICTURES)

.PHONY: bench
bench: .venv-bench/.installed browser ## measure speed against other libraries; QUICK=1: less
	@$(PY) -m tools.build
	@.venv-bench/bin/python -m benchmarks.suite $(if $(QUICK),--quick)
	@$(if $(QUICK),,$(PY) -m benchmarks.figures)

.PHONY: gpu-check
gpu-check: .venv/.installed ## with a CUDA card: right, how fast, and a report of it
	@$(PY) -m benchmarks.gpu_check

.PHONY: lock
lock: .venv/.installed ## resolve requirements.lock; UPGRADE=1 takes the newest
	@mkdir -p _build && cp requirements.lock _build/requirements.lock
	@$(PY) -m uv pip compile --quiet --universal --python-version 3.11 --extra book --extra study --extra test \
	  --no-annotate --no-header --no-emit-index-url --no-emit-find-links $(if $(UPGRADE),--upgrade) \
	  --output-file _build/requirements.lock pyproject.toml
# A torch with CUDA brings its libraries itself, and the one without needs none. Triton is for the tests too.
	@grep -Ev '^(nvidia-|cuda-)' _build/requirements.lock > requirements.lock.new
	@mv requirements.lock.new requirements.lock

.PHONY: clean
clean: ## remove everything generated, the environment apart
	@rm -rf _build .mypy_cache .pytest_cache .ruff_cache .hypothesis .nox

# ---- what the targets above begin with ----

.PHONY: browser
browser: .venv/.installed
	@$(PY) -m tools.browser

# Node comes with the Python packages of the lock, and stands first in the path of what needs it.
$(NODE) checks test: export PATH := $(CURDIR)/.venv/bin:$(PATH)
$(NODE): tests/js/package-lock.json .venv/.installed
	@echo "installing what checks the figures' scripts"
	@cd tests/js && npm ci --silent
	@touch $@

# Peers pin old libraries, and stay out of the book's environment.
.venv-bench/.installed: .venv/.installed benchmarks/requirements.txt
	@echo "installing what the benchmarks compare with into .venv-bench"
	@$(call quoted,PYTHON) -m venv --clear .venv-bench
	@grep -E '^(torch|numpy|numba|scipy|scikit-image|jaxtyping|matplotlib|tqdm|pillow|nbformat|ipython|pyyaml|pyarrow|pywavelets|threadpoolctl)==' requirements.lock \
	  > .venv-bench/constraints.txt
	@.venv-bench/bin/python -m pip --disable-pip-version-check --quiet install \
	  -r .venv-bench/constraints.txt -r benchmarks/requirements.txt
	@.venv-bench/bin/python -m pip --disable-pip-version-check --quiet install --no-deps -e .
	@touch .venv-bench/.installed

# The environment. What is half made is made again; the stamp comes last.
ifneq ($(TORCH_INDEX),)
ifneq ($(TORCH_INDEX),$(shell cat .venv/.torch-index 2>/dev/null))
.PHONY: .venv/.installed
endif
endif
.venv/.installed: requirements.lock pyproject.toml
	@$(call quoted,PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "$(PYTHON) is missing, or not Python 3.11 to 3.13; name one that is: make book PYTHON=python3.12" >&2; exit 1; }
	@$(call quoted,PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make environments: apt install python3-venv, then again" >&2; exit 1; }
	@$(PY) -m pip --version >/dev/null 2>&1 || { echo "making .venv"; $(call quoted,PYTHON) -m venv --clear .venv; }
	@echo "installing the libraries of requirements.lock into .venv; the first time takes minutes"
	@if [ -n $(call quoted,TORCH_INDEX) ]; then \
	  $(PIP) install --force-reinstall --no-deps --index-url $(call quoted,TORCH_INDEX) "$$(grep '^torch==' requirements.lock)" && \
	  echo $(call quoted,TORCH_INDEX) > .venv/.torch-index; fi
	@$(PIP) install -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch .venv/.installed
