# Two commands: `make train` and `make test`. Each makes what it needs.
PYTHON ?= python3
VENV ?= .venv
OLDEST ?= .venv-oldest
FLAGS ?=

.PHONY: train test test-fast test-oldest test-oldest-all lint docs ci chromium full chaos equivalence bench clean

train: $(VENV)/ready
	$(VENV)/bin/python -m tfdist.train --strategy=mirrored $(FLAGS)

# Two processes share the files of tests: most of the time goes into tracing, on one core.
test: $(VENV)/ready
	$(VENV)/bin/python -m pytest --numprocesses=2 --dist=loadfile --durations=20

# What is quick and runs in one process, of every room: about two minutes, for while you work.
test-fast: $(VENV)/ready
	$(VENV)/bin/python -m pytest --numprocesses=2 --dist=loadfile -m "not slow and not multi_worker"

# On the oldest versions that are promised to work: what is quick, or near Keras' private names, and all of the core.
test-oldest: $(OLDEST)/ready
	$(OLDEST)/bin/python -m pytest --numprocesses=2 --dist=loadfile -m "core and (not slow or oldest) and not full"

test-oldest-all: $(OLDEST)/ready
	$(OLDEST)/bin/python -m pytest --numprocesses=2 --dist=loadfile -m core

lint: $(VENV)/ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports
	$(VENV)/bin/mypy

# The pages of docs/, and a reference made from the docstrings; a warning is an error.
docs: $(VENV)/ready
	$(VENV)/bin/python -m mkdocs build --strict --quiet
	@echo build/docs/index.html

# Where there is no Chromium, the suite leaves out what a browser must show, and says so; this installs one, as root.
ci: chromium lint docs test test-oldest

chromium:
	-command -v chromium >/dev/null || (apt-get update --quiet && apt-get install --quiet --yes chromium)

$(VENV)/ready: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --editable '.[cpu,test,docs]'
	touch $@

$(OLDEST)/ready: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/pip install --quiet 'tensorflow==2.20.0' 'keras==3.13.0' --editable '.[test]'
	touch $@

# Measures the table of EQUIVALENCE.md anew, on two workers too, with stock Keras beside it: about half an hour.
equivalence: $(VENV)/ready
	$(VENV)/bin/python tests/equivalence/table.py

# Whole matrices, for hours; their tables are committed under docs/evidence.
full: $(VENV)/ready equivalence
	$(VENV)/bin/python -m pytest --numprocesses=2 --dist=loadfile -m full
	$(VENV)/bin/python tests/full/every_flag.py
	$(VENV)/bin/python tests/full/wrong_calls.py
	$(VENV)/bin/python tests/full/gpu_kernels.py
	$(VENV)/bin/python tests/full/tpu_trace.py
	$(VENV)/bin/python tests/full/models.py
	$(VENV)/bin/python tests/full/recipes.py
	$(VENV)/bin/python tests/full/model_sizes.py
	$(VENV)/bin/python tests/full/planted_faults.py
	$(MAKE) test-oldest-all
	$(MAKE) chaos
	$(VENV)/bin/pip install --quiet --editable '.[tpu_compiler]'
	$(VENV)/bin/python tests/full/tpu_compile.py
	$(VENV)/bin/pip install --quiet --editable '.[azureml]'
	$(VENV)/bin/python -m pytest tests/jobs/test_azureml.py
	# It needs Debian's slurmctld, slurmd and slurm-client.
	$(VENV)/bin/python tests/full/slurm.py

# Every fault at every point of a run, on two and three workers, then KILLS random kills: about an hour.
KILLS ?= 50
chaos: $(VENV)/ready
	KILLS=$(KILLS) $(VENV)/bin/python -m pytest tests/chaos/every_fault.py tests/chaos/random_kills.py

# Measures what benchmarks/README.md promises, and says for each goal whether it is met: some minutes.
bench: $(VENV)/ready
	$(VENV)/bin/python -m benchmarks.goals $(FLAGS)

clean:
	rm -rf $(VENV) $(OLDEST) build *.egg-info
