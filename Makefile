# Needs Python 3.11 or newer with pip, and make. `make demo` and `make test` set up .venv first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= demo

.PHONY: demo test lint unit setup clean

setup: $(VENV)/.ready

# One pip call with both torch and torchvision pinned: apart, the second replaces the first
# with a newer build for CUDA.
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("cemi_dask needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[torch,dev]' -c constraints.txt
	touch $@

demo: setup
	$(BIN)/cemi simulate $(DEMO)/ingot --rows 3 --frames-per-row 24 --seed 1 --noise 25
	$(BIN)/cemi run $(DEMO)/ingot/ingot.yaml --out $(DEMO)/run
	@echo "The report is $(DEMO)/run/report.html"

test: lint unit

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile

clean:
	rm -rf $(VENV) $(DEMO)
