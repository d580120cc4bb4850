# Needs Python 3.11 or newer with pip, and make. `make demo` and `make test` set up .venv first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= demo

# helm, the Kubernetes schemas and linters, for CI and for whoever changes deploy/.
DEPLOY_ENV ?= .venv-deploy

.PHONY: demo test docs lint unit check-deploy setup clean

setup: $(VENV)/.ready

# One pip call with both torch and torchvision pinned: apart, the second replaces the first
# with a newer build for CUDA.
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("cemi_dask needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[torch,docs,dev]' -c constraints.txt
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

# The documentation as pages in build/docs; a warning is an error. The variable silences an
# announcement of the theme's makers.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

unit: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile

# Apart from .venv: helm alone takes 240 MB. dask-kubernetes is there for its resource definitions
# only, so without what it depends on.
$(DEPLOY_ENV)/.ready: deploy/requirements-check.txt
	test -x $(DEPLOY_ENV)/bin/python || $(PYTHON) -m venv $(DEPLOY_ENV)
	$(DEPLOY_ENV)/bin/python -m pip install --quiet --disable-pip-version-check -r deploy/requirements-check.txt
	$(DEPLOY_ENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps 'dask-kubernetes==2026.3.0'
	touch $@

check-deploy: setup $(DEPLOY_ENV)/.ready
	CEMI_DEPLOY_ENV=$(abspath $(DEPLOY_ENV)) $(BIN)/python -m pytest tests/deploy -m helm

clean:
	rm -rf $(VENV) $(DEPLOY_ENV) $(DEMO) build/docs
