# make demo        install, pretrain on the embedded images, judge and export: about five minutes on two cores
# make test        install, then format, lint, types and tests: what CI runs
# make test-slow   the tests that take longer
# make test-tpu-stack   the tests on TensorFlow's build for TPUs, which needs none
# make format      format the code

PYTHON ?= python3
VENV ?= .venv
RUN ?= runs/demo
PY := $(VENV)/bin/python

.PHONY: demo test test-slow test-tpu-stack format clean

demo: $(VENV)/.installed
	$(PY) train.py --flagfile=flags/recipes/demo.cfg --run_dir=$(RUN) --overwrite
	$(PY) evaluate.py --run_dir=$(RUN) --mode=knn --baselines
	$(PY) evaluate.py --run_dir=$(RUN) --mode=linear --baselines
	@echo "run and its files: $(RUN); pictures: $(RUN)/plots, $(RUN)/evaluation; exported encoder: $(RUN)/encoder"

test: $(VENV)/.installed-dev
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(PY) -m pytest -q -n 2 --dist loadfile --durations=10

test-slow: $(VENV)/.installed-dev
	$(PY) -m pytest -q -m slow --durations=10

# Its constraints are those of requirements-tpu.txt; that build has no XLA for the CPU, so what needs it is skipped.
test-tpu-stack: $(VENV)-tpu/.installed
	TPU_SKIP_MDS_QUERY=1 $(VENV)-tpu/bin/python -m pytest -q -n 2 --dist loadfile --durations=10

$(VENV)-tpu/.installed: requirements-tpu.txt
	$(PYTHON) -m venv $(VENV)-tpu
	$(VENV)-tpu/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-tpu.txt pytest pytest-xdist scipy
	@touch $@

format: $(VENV)/.installed-dev
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

$(VENV)/.installed: requirements.txt constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"Python 3.11 or newer is needed: make PYTHON=python3.11. Received: {v.major}.{v.minor}")'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -r requirements.txt
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -r requirements-dev.txt
	@touch $@

clean:
	rm -rf $(VENV) $(VENV)-tpu
