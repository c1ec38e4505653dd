# make reproduce   the demo study to results/demo/report/index.html, its findings at the end   (ARGS="--config study=...")
# make report      the pages of results/reference drawn anew from its files to build/report, in less than a minute
# make test        all checks, the tiny study run for real, and the tests
# make lint        only the checks of style, types and workflow        make lock   new versions of the requirements
# make install     only .venv with the locked packages
# make clean       remove what these commands made, results of studies excepted

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
BUILD := build
# Its jobs are short: two of one thread are sooner done than one of two.
TINY := --config study=tiny config_dir=tests/tiny/config results=$(BUILD)/tiny \
	--set-threads pretrain=1 features=1 tune_boxes=1 bbox_seg=1 label_quality=1
OWN_CODE := src tests $(wildcard bench)

export PYTHONNOUSERSITE := 1
# Dozens of short processes start torch: without bytecode on disk each compiles it again, and takes twice as long.
unexport PYTHONDONTWRITEBYTECODE

# Snakemake keeps a cache in the home folder and does not start where it cannot.
ifneq ($(shell test -w "$${XDG_CACHE_HOME:-$$HOME}" && echo writable),writable)
export XDG_CACHE_HOME := $(CURDIR)/$(BUILD)/cache
endif

.PHONY: install reproduce report test lint tiny unit lock clean
ifndef SIDE_BY_SIDE
.NOTPARALLEL:
endif

install: $(VENV)/.package

reproduce: $(VENV)/.package
	$(BIN)/snakemake $(ARGS)

report: $(VENV)/.package
	$(BIN)/weakseg report

# The checks fill the gaps that the tiny study leaves. pytest comes last: it reads that study, and its summary ends
# the output.
test: $(VENV)/.package
	$(MAKE) --jobs 2 SIDE_BY_SIDE=yes lint tiny
	$(MAKE) unit

lint: $(VENV)/.dev
	$(BIN)/ruff check $(OWN_CODE)
	$(BIN)/ruff format --check $(OWN_CODE)
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint
	$(BIN)/weakseg schemas --check

# Run with settings of Jupyter and matplotlib that a user may have, and pages must not have. Its commands are forked from
# a process that has made their imports (tests/warm.py). Once it is done, a second plan must find nothing to do.
FOREIGN := $(CURDIR)/tests/tiny/foreign
tiny: $(VENV)/.package
	rm -rf $(BUILD)/tiny
	MPLBACKEND=TkAgg MATPLOTLIBRC="$(FOREIGN)/matplotlibrc" IPYTHONDIR="$(FOREIGN)" JUPYTER_PATH="$(FOREIGN)" \
		JUPYTER_CONFIG_DIR="$(FOREIGN)" JUPYTER_CONFIG_PATH="$(FOREIGN)" \
		$(BIN)/python tests/planning.py --quiet rules $(TINY)

unit: $(VENV)/.dev
	MPLBACKEND=Agg OMP_NUM_THREADS=1 WEAKSEG_TINY_RESULTS=$(BUILD)/tiny $(BIN)/python -m pytest -n 2 \
		--dist loadscope --no-loadscope-reorder

# The stamps are as old as the last installation: nothing is installed twice, and a changed lock is installed at once.
# uv is quick but does not read pip's configuration; where it finds no packages, pip installs the same lock.
$(VENV)/.bootstrap: envs/bootstrap.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; ok = (3, 11) <= v <= (3, 13); ok or sys.exit("weakseg needs \
	Python 3.11 to 3.13, and $(PYTHON) is %d.%d: say make PYTHON=/path/to/python3.11 ..." % v)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --require-hashes -r envs/bootstrap.txt
	@touch $@

$(VENV)/.runtime: envs/requirements.txt $(VENV)/.bootstrap
	$(call install,--require-hashes -r envs/requirements.txt)
	@touch $@

$(VENV)/.package: pyproject.toml $(VENV)/.runtime
	$(call install,--no-deps --no-build-isolation --editable .)
	@touch $@

$(VENV)/.dev: envs/requirements-dev.txt $(VENV)/.package
	$(call install,--require-hashes -r envs/requirements-dev.txt)
	@touch $@

install = $(BIN)/uv pip install --quiet --python $(BIN)/python $(1) || $(BIN)/python -m pip install --quiet $(1)

COMPILE = $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url
lock: $(VENV)/.bootstrap
	$(COMPILE) envs/requirements-dev.in -o envs/requirements-dev.txt
	$(COMPILE) envs/requirements.in -c envs/requirements-dev.txt -o envs/requirements.txt
	$(COMPILE) envs/bootstrap.in -c envs/requirements-dev.txt -o envs/bootstrap.txt
	$(COMPILE) envs/slurm.in -c envs/requirements-dev.txt -o envs/slurm.txt

clean:
	rm -rf $(VENV) $(BUILD) .mypy_cache .ruff_cache .pytest_cache .hypothesis src/weakseg.egg-info
	find $(OWN_CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
