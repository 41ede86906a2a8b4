# The commands to know. Each brings what it needs: Python 3.11 or later is all that must be there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help run test check bench clean

help:  ## show this
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: $(VENV)/runtime  ## serve, with the settings of config.yaml
	@$(BIN)/python server.py run

test: $(VENV)/tests  ## check the code, then run every test
	@$(MAKE) --no-print-directory check
	$(BIN)/python -m pytest

check: $(VENV)/tests  ## style and types only
	$(BIN)/ruff check --line-length 120 --target-version py311 --select E,F,I,UP,B,C4,SIM,RUF,DTZ --ignore RUF001,SIM117 .
	$(BIN)/ruff format --check --line-length 120 --target-version py311 .
	$(BIN)/mypy

bench: $(VENV)/runtime  ## measure beside other servers and libraries, in a quarter of an hour
	benchmarks/prepare.sh .bench
	.bench/venv/bin/python benchmarks/bench.py

clean:  ## remove the virtual environment; data stays
	rm -rf $(VENV)

$(VENV)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Dreamlog needs Python 3.11 or later, this is " + sys.version)'
	@$(PYTHON) -m venv $(VENV) || { echo "On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@touch $@

$(VENV)/runtime: requirements.txt | $(VENV)/python
	@echo "Installing what Dreamlog needs into $(VENV) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/tests: setup.cfg $(VENV)/runtime
	@$(BIN)/python -c 'import configparser as c; f = c.ConfigParser(); f.read("setup.cfg"); print(f["options.extras_require"]["test"])' > $(VENV)/tests.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check -r $(VENV)/tests.txt
	@touch $@
