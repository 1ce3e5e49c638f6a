# make lab: JupyterLab on the course.   make test: every check.   make help: the rest.

VENV  ?= .venv
TORCH ?= default# or cpu: PyTorch's CPU build, a third of the download
JOBS  ?= 2
BIN    = $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)

# The first Python on the path that the course is tested on; PYTHON=... names another.
FITS   = import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c '$(FITS)' >/dev/null 2>&1 && { echo $$p; break; }; done)

# One thread a process: results are bit-identical only at equal thread counts, and parallel tests
# that each use all cores slow each other down. The network is blocked: the course works offline.
# No exercise that a test plays is entered into the progress of the person who runs it.
OFFLINE = OMP_NUM_THREADS=1 COURSE_PROGRESS=off PYTHONPATH=tests/offline

.PHONY: help lab test test-all lint types unit notebooks handouts check-notebooks install clean

help: ## list these commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

lab: install ## open JupyterLab on the course (installs it first, once)
	@$(BIN)/course lab

test: install lint types unit check-notebooks ## run every check, offline

test-all: install lint types ## the same, with the slow tests: about half an hour of one core more
	$(OFFLINE) $(BIN)/pytest -n $(JOBS) -m 'slow or not slow'
	@$(MAKE) --no-print-directory check-notebooks

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

unit: install
	$(OFFLINE) $(BIN)/pytest -n $(JOBS) -m 'not slow'

check-notebooks: install ## run every notebook and compare its outputs with the stored ones
	$(OFFLINE) $(BIN)/pytest -n $(JOBS) --dist loadscope \
		--nbval --nbval-current-env --nbval-cell-timeout=300 -p no:cacheprovider notebooks

notebooks: install ## rebuild and execute the notebooks whose source changed
	@$(OFFLINE) $(BIN)/course notebooks build

handouts: install ## chapters on paper and as pages, cheat sheets, a plan for teachers
	@$(OFFLINE) $(BIN)/course handouts

install: ## make .venv and install everything (nothing to do: returns at once)
	@test -n "$(PYTHON)" || { echo "course: no Python 3.11, 3.12 or 3.13 was found. Install one \
	from python.org or your package manager, or name it: make lab PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -m course_lib.setup.bootstrap --venv $(VENV) --torch $(TORCH)

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
