# make lab: JupyterLab on the course.   make test: every check.   make help: the rest.

VENV  ?= .venv
TORCH ?= default# or cpu: PyTorch's CPU build, a third of the download
JOBS  ?= 2
BIN    = $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)

# The first Python on the path that the course is tested on; else one that can start uv, which then
# brings one that fits; else, with uv on the path, uv's own. PYTHON=... names another.
FITS   = import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
ifndef PYTHON
PYTHON := $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c '$(FITS)' >/dev/null 2>&1 && { echo $$p; exit; }; done; \
	python3 -c 'import sys; sys.exit(sys.version_info < (3, 8))' >/dev/null 2>&1 && \
	{ echo python3; exit; }; \
	uv python find --system 3.12 2>/dev/null || \
	{ uv python install -q 3.12 >/dev/null 2>&1 && uv python find --system 3.12; })
endif

# One thread a process: results are bit-identical only at equal thread counts, and parallel tests
# that each use all cores slow each other down. The network is blocked: the course works offline.
# No exercise that a test plays is entered into the progress of the person who runs it.
# What a notebook prints hangs on none of the variables of the shell that runs it: not on those of a
# notebook's own shell, of a host or of a person's settings.
CLOSED = env -u JPY_SESSION_NAME -u COLAB_RELEASE_TAG -u KAGGLE_KERNEL_RUN_TYPE -u COURSE_DATA \
	-u PYTHONWARNINGS -u PYTHONDEVMODE -u PYTHONOPTIMIZE -u COLUMNS -u FORCE_COLOR \
	-u MPLBACKEND -u MKL_NUM_THREADS -u MATPLOTLIBRC -u TORCH_LOGS -u TQDM_DISABLE \
	-u IPYTHONDIR -u PYTHONPROFILEIMPORTTIME -u PYTHONVERBOSE -u PYTHONIOENCODING \
	COURSE_PROFILE=tiny COURSE_PROGRESS_BAR=0 COURSE_PANELS=static
OFFLINE = OMP_NUM_THREADS=1 COURSE_PROGRESS=off PYTHONPATH=tests/offline

.PHONY: help lab test test-all lint types unit notebooks handouts site check-notebooks install lock clean

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
	$(BIN)/lint-imports
	@test ! -d .github/workflows || \
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*

types: install
	$(BIN)/mypy

unit: install
	$(OFFLINE) $(BIN)/pytest -n $(JOBS) -m 'not slow'

check-notebooks: install ## run every notebook and compare its outputs with the stored ones
	$(OFFLINE) $(CLOSED) $(BIN)/pytest -n $(JOBS) --dist loadscope \
		-p asserted --nbval --nbval-current-env --nbval-cell-timeout=300 -p no:cacheprovider \
		notebooks/[0-9][0-9]_*.ipynb

notebooks: install ## rebuild and execute the notebooks whose source changed
	@$(OFFLINE) $(BIN)/course notebooks build

handouts: install ## on paper: chapters, workshop, slides, cheat sheets, a plan for teachers
	@$(OFFLINE) $(BIN)/course handouts

site: install ## the course as a static site, from the stored notebooks: site/index.html
	@$(OFFLINE) $(BIN)/course site

install: ## make .venv and install everything (nothing to do: returns at once)
	@test -n "$(PYTHON)" || { echo "course: no Python 3.11, 3.12 or 3.13 was found. Install one \
	from python.org or your package manager, or name it: make lab PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) course_lib/setup/bootstrap.py --venv $(VENV) --torch $(TORCH)

lock: ## bring requirements.lock in step with pyproject.toml (UPGRADE=--upgrade: newest versions)
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --custom-compile-command "make lock" $(UPGRADE) \
		--extra dev --group without-dependencies --group installers \
		--output-file requirements.lock pyproject.toml > /dev/null

clean: ## remove the virtual environments and caches
	rm -rf $(VENV) $(VENV)-uv install.log .pytest_cache .mypy_cache .ruff_cache .hypothesis
