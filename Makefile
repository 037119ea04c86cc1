# make demo        install, pretrain on the embedded images, evaluate and export: two to five minutes on two cores
# make test        install, then format, lint, types and tests
# make check       format, lint and types alone: half a minute
# make test-slow   the tests that take longer
# make test-tpu-stack   the tests on TensorFlow's build for TPUs; they need no TPU
# make bench       all timings of the step, on an idle machine: PEER=.peer/bin/python adds lightly's
# make bench-quick whether the step is as fast as it was, in ratios: CI runs it too, under two minutes
# make format      format the code

PYTHON ?= python3
VENV ?= .venv
RUN ?= runs/demo
PY := $(VENV)/bin/python
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check

.PHONY: demo test check test-slow test-tpu-stack bench bench-quick format clean

demo: $(VENV)/.installed
	$(PY) train.py --flagfile=recipe:demo --run_dir=$(RUN) --overwrite
	$(PY) evaluate.py --run_dir=$(RUN) --mode=knn --baselines
	$(PY) evaluate.py --run_dir=$(RUN) --mode=linear --baselines
	@echo "run and its files: $(RUN); pictures: $(RUN)/plots, $(RUN)/evaluation; exported encoder: $(RUN)/encoder"

# Dozens of processes import the package: it is compiled once, whatever the environment says.
test: check
	PYTHONDONTWRITEBYTECODE= $(PY) -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder --durations=10

check: $(VENV)/.installed-dev
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy

test-slow: $(VENV)/.installed-dev
	$(PY) -m pytest -q -m slow --durations=10

# That build has no XLA for the CPU, so what needs it is skipped.
test-tpu-stack: $(VENV)-tpu/.installed
	TPU_SKIP_MDS_QUERY=1 $(VENV)-tpu/bin/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder --durations=10

$(VENV)-tpu/.installed: requirements-tpu.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)-tpu
	$(VENV)-tpu/bin/python $(PIP_INSTALL) -r requirements-tpu.txt pytest pytest-xdist scipy hypothesis
	@touch $@

bench: $(VENV)/.installed-dev
	$(PY) -m benchmarks.bench --out=runs/bench --peer_python="$(PEER)"

bench-quick: $(VENV)/.installed-dev
	$(PY) -m benchmarks.quick

format: $(VENV)/.installed-dev
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

$(VENV)/.installed: requirements.txt constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(not (3, 11) <= v < (3, 14) and f"Python 3.11 to 3.13 is needed: make PYTHON=python3.11. Received: {v.major}.{v.minor}")'
	$(PYTHON) -m venv $(VENV)
	$(PY) $(PIP_INSTALL) -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PY) $(PIP_INSTALL) -c constraints.txt -e ".[dev]"
	@touch $@

clean:
	rm -rf $(VENV) $(VENV)-tpu
