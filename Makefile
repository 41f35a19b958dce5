# `make check` and `make test` do all the set-up: they make .venv when it is missing and install what is pinned in
# constraints.txt. A stamp in .venv says that the install is up to date, so that a second run installs nothing.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
JOBS ?= auto
PROFILE ?= quick

BIN := .venv/bin
STAMP := .venv/installed
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
# A package of Debian's, installed as root; elsewhere there is nothing to do.
DEBIAN = ! command -v apt-get >/dev/null || test "$$(id -u)" != 0 || \
  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $(1); } >/dev/null

.DEFAULT_GOAL := help
.PHONY: help check test lint generate nightly faults kernels-cases pallas-cases kernels-full bench bench-blockwise bench-forms bench-gpu tpu-compile coverage constraints clean r chromium

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 18

check: generate r ## install, regenerate, cross-check every installed framework, print the matrix
	$(BIN)/attnspec check --profile $(PROFILE)

test: lint r chromium ## install, lint, type-check, look for drift, run the test suite in parallel
	$(BIN)/attnspec generate --check
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

lint: $(STAMP) ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tests/link_packages.py
	$(BIN)/mypy

generate: $(STAMP) ## compile spec/ into generated/
	$(BIN)/attnspec generate

nightly: $(STAMP) ## over a million cases, hours; goes on where it was interrupted: benchmarks/results/nightly.json
	mkdir -p build
	$(BIN)/attnspec check --profile nightly --seed 0 --state build/nightly.json --format json > build/nightly.out
	mv build/nightly.out benchmarks/results/nightly.json

faults: $(STAMP) ## plant faults in correct code, drop arguments: which check finds each, how it is named; fails where one is missed
	PYTHONPATH=tests $(BIN)/python -m planted_bugs

kernels-cases: $(STAMP) ## a thousand cases forward, 300 backward of every Triton kernel, interpreted: hours; goes on as nightly does
	mkdir -p build
	$(BIN)/attnspec check --targets triton --no-native --profile nightly --cases 1000 --gradient-cases 300 \
	  --dtypes float32,float16 --checks oracle,gradients --seed 0 --state build/kernels.json --format json > build/kernels.out
	mv build/kernels.out benchmarks/results/kernels_cases.json

pallas-cases: $(STAMP) ## the same of every Pallas kernel, for GPUs and TPUs, over all dtypes: hours; goes on as nightly does
	mkdir -p build
	$(BIN)/attnspec check --targets pallas --no-native --profile ci --cases 334 --gradient-cases 100 \
	  --dtypes float32,float16,bfloat16 --checks oracle,gradients --seed 0 --state build/pallas.json --format json > build/pallas.out
	mv build/pallas.out benchmarks/results/pallas_cases.json
	$(BIN)/attnspec check --targets pallas_tpu --no-native --profile ci --cases 500 --gradient-cases 150 \
	  --dtypes float32,bfloat16 --checks oracle,gradients --seed 0 --state build/pallas_tpu.json --format json > build/pallas_tpu.out
	mv build/pallas_tpu.out benchmarks/results/pallas_tpu_cases.json

kernels-full: $(STAMP) ## compile every kernel for every chip, dtype and head dim, with limits: benchmarks/results/kernels_*
	PYTHONPATH=tests $(BIN)/python -m kernels_full

bench: $(STAMP) ## measure cases per second of every lane
	$(BIN)/attnspec bench

bench-blockwise: $(STAMP) ## time and memory of the blockwise forms beside torch's, jax's, Keras's and NumPy's: benchmarks/results/blockwise.json
	$(BIN)/python benchmarks/blockwise.py

bench-forms: $(STAMP) ## up to which size the direct forms are faster, for `attnspec generate --form auto`: benchmarks/results/forms.json
	$(BIN)/python benchmarks/forms.py

bench-gpu: ## on a machine with a GPU, by its own torch and Triton: kernels checked, then timed: benchmarks/results/gpu.json
	$(PYTHON) benchmarks/gpu.py

tpu-compile: $(STAMP) ## with libtpu and no TPU: compile the Pallas kernels for v5e and v6e: benchmarks/results/tpu.json
	$(BIN)/python benchmarks/tpu.py

coverage: $(STAMP) ## line coverage of spec, codegen and harness, lane processes included; fails under 95 %
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n $(JOBS) --dist worksteal
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

r: ## R, for its lane and its tests: installed where that is possible (Debian, as root), elsewhere not covered
	command -v Rscript >/dev/null || $(call DEBIAN,r-base-core) || \
	  echo 'R could not be installed: its lane and its tests are not covered'

chromium: ## Chromium, for the test of `attnspec report`: installed and left out as R is
	command -v chromium >/dev/null || command -v google-chrome >/dev/null || $(call DEBIAN,chromium) || \
	  echo 'Chromium could not be installed: the page of `attnspec report` is not covered'

constraints: ## resolve the newest packages in a fresh environment and pin them
	rm -rf build/pins
	$(PYTHON) -m venv build/pins
	build/pins/bin/python -m pip --disable-pip-version-check install --quiet --upgrade setuptools
	build/pins/bin/python -m pip --disable-pip-version-check install --quiet --no-build-isolation '.[all]'
	{ echo '# Every package of `.[all]`, pinned: the set-up that the checks ran with. Written by `make constraints`.'; \
	  build/pins/bin/python -m pip freeze --all | grep --invert-match --extended-regexp '^(attnspec|pip)[ =]' \
	  | sed 's/+[a-z0-9.]*$$//'; } > constraints.txt

clean: ## remove .venv and everything a tool left behind
	rm -rf .venv build dist .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Build isolation would fetch a setuptools of its own, which no constraint pins: the pinned one goes into .venv instead.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) --upgrade setuptools
	$(PIP) --no-build-isolation --editable '.[all]'
	touch $@
