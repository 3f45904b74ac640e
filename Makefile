# Two commands for a fresh machine: `make scan` and `make test`. Each installs what it needs into .venv, once.

PYTHON ?= $(shell python3.11 -c '' 2>/dev/null && echo python3.11 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input

.PHONY: scan test lint format install docs clean

# The bundled LoRA of a synthetic person, against the embedded base; photos of that person only judge what came back.
scan: $(VENV)/attack.stamp
	rm -rf build/scan
	$(BIN)/loraudit scan models/examples/example.safetensors --reference models/examples/photos \
	  --save-images build/scan --fail-on never
	@echo "The pictures are in build/scan; sheet.png shows them all."

test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

install: $(VENV)/dev.stamp

# The site, in build/site; a broken link is an error.
docs: $(VENV)/docs.stamp
	$(BIN)/properdocs build --config-file mkdocs.yml

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# A stamp is newer than pyproject.toml once the install went through; the dev environment holds the attack extra too.
$(VENV)/attack.stamp: pyproject.toml | $(VENV)/bin/python
	$(PIP) install --editable '.[attack]'
	touch $@

$(VENV)/dev.stamp: pyproject.toml | $(VENV)/bin/python
	$(PIP) install --editable '.[attack,dev]'
	touch $(VENV)/attack.stamp $@

$(VENV)/docs.stamp: pyproject.toml | $(VENV)/bin/python
	$(PIP) install --editable '.[docs]'
	touch $@
