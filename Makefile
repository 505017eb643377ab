# Everything here sets up its own environment; only Python 3.10+ and make are needed.
#   make demo    a talking video from the sample portrait and recording
#   make test    format, lint, types and tests

PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
DEMO ?= demo.mp4

BIN := $(VENV)/bin
# The stamps carry the checksum of what was asked for, so nothing is installed again until that changes.
WANTED := $(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)
RUN_STAMP := $(VENV)/.run-$(WANTED)
DEV_STAMP := $(VENV)/.dev-$(WANTED)
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) --constraint constraints.txt

.PHONY: help demo test lint format types check wheel bench clean

help:
	@sed -n 's/^#   //p' Makefile
	@echo "also: make lint, format, types, wheel, bench, clean"

$(BIN)/python:
	@echo "making the environment $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(RUN_STAMP): | $(BIN)/python
	@echo "installing emotalk and what it needs (the first time takes minutes)"
	@$(INSTALL) --editable .
	@touch $@

$(DEV_STAMP): | $(BIN)/python
	@echo "installing emotalk, what it needs and the tools of its tests (the first time takes minutes)"
	@$(INSTALL) --editable '.[dev]'
	@touch $@ $(RUN_STAMP)

demo: $(RUN_STAMP)
	@$(BIN)/emotalk generate emotalk/assets/sample_face.jpg emotalk/assets/sample_speech.flac \
		--emotion happy --intensity 2 --output $(DEMO) --overwrite --offline
	@echo "the demo is $(abspath $(DEMO)); open it in a browser or a video player"

test: lint types $(DEV_STAMP)
	$(BIN)/python -m pytest -q

lint: $(DEV_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(DEV_STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(DEV_STAMP)
	$(BIN)/mypy

wheel: $(DEV_STAMP)
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	@ls -l dist

bench: $(DEV_STAMP)
	@for file in tests/bench/bench_*.py; do $(BIN)/python $$file || exit 1; done

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
