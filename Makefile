# auxgate: `make train` sets all up and runs the main job; `make test` sets all up and tests it.
# Every target installs what it needs into .venv first; only python3, git and make must be there.

PYTHON ?= python3
VENV ?= .venv
# The exact versions that CI runs.  CONSTRAINTS=/dev/null takes the ranges of pyproject.toml,
# for instance to keep a PyTorch that is installed already (see README, "Install").
CONSTRAINTS ?= constraints.txt
PIP_FLAGS ?=
# make train STEPS=200000 ARGS="--seed 2"
STEPS ?=
ARGS ?=

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# One thread per process: the tests run side by side.
TEST_ENV := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help setup train demo sweep watch test test-fast slow check format golden bench figures gpu gpu-wheels clean

help: ## This list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): pyproject.toml setup.py $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "auxgate needs Python 3.11 or newer; give one with PYTHON=python3.11."; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (some minutes the first time)..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) \
		--constraint $(CONSTRAINTS) --editable '.[atari,dev]'
	@touch $@

setup: $(STAMP) ## Install everything into .venv

train: $(STAMP) ## The main job: Breakout with a gated teacher (STEPS=200000 for a short one)
	@echo "Training; the line below says how long it takes. Ctrl-C is safe: it saves and says how to go on."
	@echo "Curves: make watch, in another terminal."
	$(BIN)/python train.py --env Breakout --aux distill --gate cosine $(if $(STEPS),--steps $(STEPS)) $(ARGS)

demo: $(STAMP) ## Catch, learnt in seconds
	$(BIN)/python train.py --env Catch $(ARGS)

sweep: $(STAMP) ## Teachers' temperatures against gates in 200 gridworlds (ARGS=--full for 1,000)
	$(BIN)/python sweep.py $(ARGS)

watch: $(STAMP) ## TensorBoard on all runs
	$(BIN)/tensorboard --logdir runs

test: $(STAMP) ## All tests but the slow ones (under ten minutes on two cores)
	$(TEST_ENV) $(BIN)/python -m pytest --quiet --numprocesses 2 -m "not slow" $(ARGS)

test-fast: $(STAMP) ## The tests that take seconds
	$(TEST_ENV) $(BIN)/python -m pytest --quiet --numprocesses 2 -m "not slow and not seconds" $(ARGS)

slow: $(STAMP) ## Tests slow by nature: the wheel, studies and files under attack, Ray, submitit, Optuna
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) \
		--constraint $(CONSTRAINTS) --editable '.[atari,dev,ray,slurm,search]'
	$(TEST_ENV) $(BIN)/python -m pytest --quiet -m slow $(ARGS)

check: $(STAMP) ## Format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy -p agents -p auxgate -p configs -p envs -p gridworld -p experiments -p benchmarks -p examples
	$(BIN)/mypy train.py evaluate.py sweep.py study.py

format: $(STAMP) ## Put the code into its format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

golden: $(STAMP) ## Rewrite the golden losses (in a commit that says numerics-changing)
	$(TEST_ENV) $(BIN)/python -m tests.test_golden

bench: $(STAMP) ## Steps per second, with each gate
	$(BIN)/python benchmarks/throughput.py

figures: $(STAMP) ## Draw all figures of benchmarks/results again from their tables
	$(BIN)/python benchmarks/redraw.py $(ARGS)

# A machine with a GPU is rarely set up for us: its own Python will do, with the wheels below.
GPU_PYTHON ?= $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))
DEVICE ?= cuda
QUICK ?=

gpu: ## All measurements on a GPU in eight minutes (DEVICE=cpu QUICK=1 rehearses them)
	$(GPU_PYTHON) benchmarks/gpu.py --device $(DEVICE) $(if $(QUICK),--quick) $(ARGS)

gpu-wheels: ## Fetch what a bare GPU machine lacks into .gpu-wheels (ARGS="--python 3.11": for that Python)
	$(GPU_PYTHON) benchmarks/gpu_wheels.py $(ARGS)

clean: ## Remove the virtual environment and caches; runs stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
