# `make demo` and `make test` need only Python 3.11 or 3.12, a C++ compiler, make and pip.
# Everything they make stays in this folder: the environment in .venv, what can be kept in .cache.

.DEFAULT_GOAL := help
.PHONY: help demo test lint format setup clean

PY := .venv/bin/python

# Caches that tools would put into the home folder; what you have set yourself is kept.
export MMSELFSUP_INVP_CACHE ?= $(CURDIR)/.cache
export PIP_CACHE_DIR ?= $(MMSELFSUP_INVP_CACHE)/pip
export MPLCONFIGDIR ?= $(CURDIR)/.cache/matplotlib
export XDG_CACHE_HOME ?= $(CURDIR)/.cache/xdg

# The Python of an existing .venv comes first, so that it stays the one it was made with.
MADE_WITH = $(shell sed -n 's/^executable = //p' .venv/pyvenv.cfg 2>/dev/null)
PYTHONS = $(if $(PYTHON),$(PYTHON),$(MADE_WITH) python3.11 python3.12 python3)

help:  ## show this list
	@echo 'Targets (each does the set-up it needs, once):'
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 10 | sed 's/^/  /'
	@echo
	@echo 'All other commands run with the Python of .venv: .venv/bin/python tools/train.py ...'
	@echo
	@echo 'Variables:'
	@echo '  PYTHON=...                Python 3.11 or 3.12 to make .venv with'
	@echo '  CXX=...                   C++ compiler that compiles mmcv (once); default c++'
	@echo '  FORCE_CUDA=1              compile the CUDA operations of mmcv as well (needs nvcc)'
	@echo '  MAX_JOBS=N                compile N files of mmcv at a time'
	@echo '  MMSELFSUP_INVP_CACHE=...  where compiled mmcv and downloads are kept; name one folder'
	@echo '                            to share it between clones; default .cache'
	@echo '  ARGS="..."                more arguments for the demo or for pytest'

demo: setup  ## see it work on a small data set
	@$(PY) tools/demo.py $(ARGS)

test: lint  ## check the style, then run all tests
	$(PY) -m pytest $(ARGS)

lint: setup  ## check the style (`make format` mends most of it)
	$(PY) -m ruff format --check
	$(PY) -m ruff check

format: setup  ## put the code into the style
	$(PY) -m ruff format
	$(PY) -m ruff check --fix

# A version manager's `python3.x` may exist and yet not run: a candidate has to run to count.
setup:  ## only make or update .venv
	@[ -z "$(PYTHON)" ] && $(PY) tools/setup_env.py --ready 2>/dev/null && exit 0; \
	for python in $(PYTHONS); do \
	    if "$$python" tools/setup_env.py --python >/dev/null 2>&1; then \
	        exec "$$python" tools/setup_env.py; \
	    fi; \
	    if "$$python" -c '' 2>/dev/null; then unfit=$$python; fi; \
	done; \
	echo 'No usable Python among: $(PYTHONS)' >&2; \
	if [ -n "$$unfit" ]; then "$$unfit" tools/setup_env.py --python; exit 1; fi; \
	echo 'None of them runs. Install Python 3, or name yours: make PYTHON=/path/to/python3 ...' >&2; \
	exit 1

clean:  ## remove .venv and what tools left behind; .cache (compiled mmcv, downloads) stays
	rm -rf .venv build dist *.egg-info mmselfsup_invp/ops/search/*.so .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.cache/*' -prune -exec rm -rf {} +
