# Set-up, demo, tests and checks. Needs make and Python 3.11 or 3.12; `make detection` needs a C++
# compiler as well. The environment goes to .venv, downloads and the compiled mmcv to .cache.

.DEFAULT_GOAL := help
.PHONY: help setup demo test detection hosts docs lint types format clean

PY := .venv/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
PYTHONS := $(or $(PYTHON),python3.11 python3.12 python3)
PYTHON312 ?= python3.12

# Variables that would lead Python or pip out of .venv.
unexport PYTHONHOME PYTHONPATH PIP_USER PIP_TARGET PIP_PREFIX PIP_REQUIRE_HASHES

# Caches that would otherwise go to the home folder. Your own settings take precedence.
export MMSELFSUP_INVP_CACHE ?= $(CURDIR)/.cache
export PIP_CACHE_DIR ?= $(MMSELFSUP_INVP_CACHE)/pip
export MPLCONFIGDIR ?= $(CURDIR)/.cache/matplotlib
export XDG_CACHE_HOME ?= $(CURDIR)/.cache/xdg

# Stamp files of finished steps. A moved or copied .venv does not work, so the checksum of the path
# is part of their folder and the environment is created again in the new place.
STAMPS := .venv/stamps-$(firstword $(shell pwd | cksum))

help:  ## show this list
	@echo 'Targets (each runs the set-up that it needs):'
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 12 | sed 's/^/  /'
	@echo
	@echo 'Other commands use the Python of .venv: .venv/bin/python tools/train.py ...'
	@echo
	@echo 'Variables:'
	@echo '  ARGS="..."                further arguments for the demo or pytest'
	@echo '  PYTHON=...                Python 3.11 or 3.12 to create .venv with'
	@echo '  PYTHON312=...             Python 3.12 for `make hosts`; default python3.12'
	@echo '  MMSELFSUP_INVP_CACHE=...  folder for downloads and the compiled mmcv; default .cache'
	@echo '  CXX=... MAX_JOBS=N        C++ compiler and number of parallel jobs for mmcv'
	@echo '  FORCE_CUDA=1              compile the CUDA operations of mmcv too (needs nvcc)'

setup: $(STAMPS)/package  ## create or update .venv

demo: setup  ## train on a small data set and print a table
	@$(PY) tools/demo.py $(ARGS)

test: lint  ## check style and types, then run the fast tests
	$(PY) -m pytest -m 'not slow and not detection' $(ARGS)

detection: $(STAMPS)/detection  ## compile mmcv for object detection (once), then run its tests
	$(PY) -m pytest -m detection $(ARGS)

hosts: $(STAMPS)/host-mmpretrain $(STAMPS)/host-onedl-mmpretrain  ## test with both MMPretrains as the host
	$(PY) -m pytest -m 'slow or not slow' tests/test_hosts.py $(ARGS)

docs: $(STAMPS)/docs  ## build the documentation site in docs/_build/html
	$(PY) -m sphinx -W --keep-going -c docs . docs/_build/html $(ARGS)

lint: types  ## check style and types (`make format` fixes most of the style)
	$(PY) -m ruff format --check
	$(PY) -m ruff check

types: setup  ## check the types of ops and memory
	$(PY) -m mypy

format: setup  ## format the code
	$(PY) -m ruff format
	$(PY) -m ruff check --fix

clean:  ## delete .venv and build files; .cache stays
	rm -rf .venv .venv-*mmpretrain build dist docs/_build *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find mmselfsup_invp -name '*.so' -delete
	find . -name __pycache__ -not -path './.cache/*' -prune -exec rm -rf {} +

# An interrupted installation leaves no stamp, and the next one starts with an empty .venv.
$(STAMPS)/locked: requirements/locked.txt tools/create_venv.sh
	@sh tools/create_venv.sh $(PYTHONS)
	@echo '==> Installing requirements/locked.txt (the first time PyTorch is a download of 3 GB)'
	@$(PIP) install --requirement requirements/locked.txt
	@mkdir -p $(@D) && touch $@

$(STAMPS)/package: $(STAMPS)/locked setup.cfg setup.py $(wildcard mmselfsup_invp/ops/*/*.c mmselfsup_invp/ops/*.c)
	@echo '==> Installing mmselfsup_invp, editable'
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@$(PIP) check
	@touch $@

# NumPy 2.5, with which the maintained packages are tested, needs Python 3.12.
$(STAMPS)/host-%: requirements/host-%.txt $(STAMPS)/package
	@$(if $(findstring onedl,$*),$(PYTHON312),$(PY)) -m venv --clear .venv-$*
	@echo '==> Installing $< into .venv-$*'
	@$(PIP) --python .venv-$* install --requirement $<
	@$(PIP) --python .venv-$* install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(STAMPS)/docs: $(STAMPS)/package requirements/docs.txt
	@$(PIP) install --quiet --requirement requirements/docs.txt --constraint requirements/locked.txt
	@touch $@

# Both packages contain the module mmcv. Without its stamp, an environment between the two would be
# created again.
$(STAMPS)/detection: $(STAMPS)/package requirements/locked-detection.txt tools/build_mmcv.sh
	@sh tools/build_mmcv.sh $(PY)
	@mv $(STAMPS)/locked $(STAMPS)/replacing-mmcv
	@$(PIP) uninstall --quiet --yes mmcv-lite mmcv
	@$(PIP) install --quiet --no-deps "$$(sh tools/build_mmcv.sh $(PY) --path)"
	@$(PY) -c 'import mmcv.ops'
	@mv $(STAMPS)/replacing-mmcv $(STAMPS)/locked
	@touch $@
