# From nothing but Python 3.11, git and make: `make run` shows a first result, `make test` checks everything.

PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3.11)
BIN := .venv/bin
READY := .venv/ready
TWO := -n 2 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup run test faults bench lock audit lab app tables chapters site weights
.NOTPARALLEL:

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' Makefile

setup: $(READY) ## virtual environment in .venv, from requirements.lock

run: setup ## phantom data and the classification notebook, without a reader; prints accuracy and paths
	$(BIN)/python datasets/download.py phantom
	$(BIN)/python -m utils.headless notebooks/2_classification.ipynb --html

# Data and output of the tests lie in a folder that goes afterwards. pytest runs whatever ruff says, and comes last, so
# that its summary closes. Two files at a time, a core each, in their order: the longest are not the last.
test: setup ## ruff, every notebook in quick mode (nbval), and all tests; SLURM's where there is one
	@folder=$$(mktemp -d) || exit; trap 'rm -rf "$$folder"' EXIT; trap 'exit 130' INT TERM; status=0; \
	export BRAIN_MRI_DATA="$$folder/data" BRAIN_MRI_OUTPUT="$$folder/output" OMP_NUM_THREADS=1; \
	$(BIN)/ruff check . || status=1; \
	$(BIN)/python datasets/download.py phantom || status=1; \
	$(BIN)/pytest -p no:cacheprovider $(TWO) --nbval-lax --nbval-current-env notebooks tests || status=1; \
	exit $$status

# Parts of it: make faults ARGS="--only killed". Two parts at a time; about 30 minutes on two cores.
faults: setup ## kills, full disks, damaged files, lost networks: thousands of tries, table in docs/reliability.md
	@folder=$$(mktemp -d) || exit; trap 'rm -rf "$$folder"' EXIT; trap 'exit 130' INT TERM; \
	export BRAIN_MRI_DATA="$$folder/data" OMP_NUM_THREADS=1 PYTHONPATH=tests/helpers; \
	$(BIN)/python datasets/download.py phantom && $(BIN)/python tests/faults $(ARGS)

# Parts of it: make bench ARGS="--only step". On a machine that does nothing else.
bench: setup ## training steps, epochs and curation beside other ways; table in docs/performance.md
	@folder=$$(mktemp -d) || exit; trap 'rm -rf "$$folder"' EXIT; trap 'exit 130' INT TERM; \
	export BRAIN_MRI_DATA="$$folder/data"; \
	$(BIN)/python datasets/download.py phantom && $(BIN)/python benchmarks/speed $(ARGS)

lock: ## requirements.lock from requirements.txt, with hashes; needs a network
	@command -v uv >/dev/null || { echo "error: uv is needed: pip install uv" >&2; exit 1; }
	head -4 requirements.lock >requirements.lock.new
	uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header --python-version 3.11 requirements.txt \
		>>requirements.lock.new && mv requirements.lock.new requirements.lock

# Strict: a package that the service says nothing of is an error. Behind a mirror without the service pip-audit would
# else find "no known vulnerabilities", having asked nobody.
audit: .venv-audit/ready ## known vulnerabilities of what requirements.lock holds; needs a network
	.venv-audit/bin/pip-audit --strict --require-hashes --disable-pip -r requirements.lock

tables: setup ## runs.csv, the README's table and figure, the chapter of results, from saved_metrics/
	$(BIN)/python -m utils.report.readme
	$(BIN)/python -m utils.chapters notebooks/8_results.ipynb

chapters: setup ## execute all notebooks in place, in quick mode on the phantom: some minutes, a line a cell
	$(BIN)/python datasets/download.py phantom
	$(BIN)/python -m utils.chapters

site: .venv-site/ready ## the chapters as pages with search in site/, to be read without a network
	.venv-site/bin/sphinx-build -q -W --keep-going -c docs/site . site
	@cp docs/site/start.html site/index.html
	@echo "site/index.html"

weights: setup ## ImageNet weights into the cache, for nodes without network: make weights BACKBONE=ResNet50
	$(BIN)/python -m models.backbones $(BACKBONE)

app: setup ## a page on this machine alone: drop an image or a volume, see what a saved model says
	$(BIN)/python -m utils.predict.page $(MODEL)

lab: setup ## JupyterLab in notebooks/
	$(BIN)/jupyter lab --notebook-dir notebooks

# The lock is of Linux and Python 3.11, to the byte; elsewhere pip chooses what the packages need in turn.
$(READY): requirements.txt requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: Python 3.11 is needed; name it: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	@echo "Installing the packages of requirements.txt into .venv: some minutes, once"
	@locked=$$($(BIN)/python -c 'import sys; print((sys.platform, *sys.version_info[:2]) == ("linux", 3, 11))'); \
	if [ "$$locked" = True ]; then set -- --require-hashes -r requirements.lock; else set -- -r requirements.txt; fi; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$@"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

# An environment of its own: what builds pages has no say in what trains.
.venv-site/ready: docs/site/requirements.txt
	test -x .venv-site/bin/pip || $(PYTHON) -m venv .venv-site
	.venv-site/bin/python -m pip install --quiet --disable-pip-version-check -r docs/site/requirements.txt
	@touch $@

.venv-audit/ready:
	test -x .venv-audit/bin/pip || $(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1
	@touch $@
