# The commands to know. Each installs what it needs; only Python 3.11 or later must be there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The tests of the page need a real browser, and fonts for English, Chinese and emoji. These are Debian's packages.
BROWSER := chromium fonts-noto-cjk fonts-noto-color-emoji
UNIT_TESTS := tests/commands tests/handlers tests/processing tests/storage $(wildcard tests/test_*.py)
# Percent of the lines and branches of the packages that tests must reach, without the processes that they start.
COVERED := 95
# From npm: these check the types, the form and the accessibility of what is in web/, and the contract of messages.
NODE_TOOLS := typescript@7.0.2 prettier@3.10.1 axe-core@4.14.1 @asyncapi/parser@3.6.6
HAS_NODE := command -v npm >/dev/null && node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)'

PIP_INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check
# One lock for every platform and every Python from 3.11: versions stay as they are unless UPGRADE=--upgrade.
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --custom-compile-command "make lock" $(UPGRADE)

.PHONY: help run test test-long coverage check types bench lock clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: $(VENV)/runtime  ## serve with the settings of config.yaml
	@$(BIN)/python server.py run

test: $(VENV)/tests $(VENV)/browser  ## check the code, then run every test, with a sample of each campaign
	@$(MAKE) --no-print-directory check
	$(BIN)/python -m pytest --numprocesses auto --cov --cov-report= --cov-fail-under=$(COVERED)

test-long: $(VENV)/tests $(VENV)/browser  ## the same with whole campaigns, before a release; takes up to 2 hours
	@TEST_LONG=1 $(MAKE) --no-print-directory test

coverage: $(VENV)/tests  ## run the unit tests, and show which lines and branches they do not reach
	$(BIN)/python -m pytest --numprocesses auto $(UNIT_TESTS) --cov --cov-report=term --cov-fail-under=$(COVERED)

check: $(VENV)/tests $(VENV)/web  ## check style and types only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(VENV)/node_modules/.bin/prettier --log-level warn --check --no-semi --single-quote --print-width 120 \
	  'web/**/*.{js,ts,css}' 'tests/web/*.{mjs,ts}'
	$(VENV)/node_modules/.bin/tsc --project tests/web
	$(VENV)/node_modules/.bin/tsc --noEmit --strict --checkJs --target es2023 --lib es2023,webworker web/sw.js

types: $(VENV)/runtime  ## write the protocol's TypeScript declarations, after a change of its bodies or messages
	@$(BIN)/python -c 'from handlers.typescript import declarations; print(declarations(), end="")' > web/client/protocol.d.ts

bench: $(VENV)/runtime  ## compare with other servers and libraries; takes 15 minutes
	benchmarks/prepare.sh .bench
	.bench/venv/bin/python benchmarks/bench.py

lock: $(VENV)/python  ## resolve requirements.in and setup.cfg into the locks; UPGRADE=--upgrade takes newer versions
	@$(PIP_INSTALL) uv==0.13.9
	$(COMPILE) requirements.in --output-file requirements.txt
	@$(BIN)/python -c 'import configparser as c; f = c.ConfigParser(); f.read("setup.cfg"); print(f["options.extras_require"]["test"])' > $(VENV)/tests.in
	$(COMPILE) $(VENV)/tests.in --constraint requirements.txt --output-file tests/requirements.txt

clean:  ## remove the virtual environment, not the data
	rm -rf $(VENV)

$(VENV)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Dreamlog needs Python 3.11 or later, this is " + sys.version)'
	@$(PYTHON) -m venv $(VENV) || { echo "On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@touch $@

$(VENV)/runtime: requirements.txt | $(VENV)/python
	@echo "Installing the libraries of Dreamlog into $(VENV) ..."
	@$(PIP_INSTALL) --require-hashes -r requirements.txt
	@touch $@

$(VENV)/tests: tests/requirements.txt $(VENV)/runtime
	@$(PIP_INSTALL) --require-hashes -r tests/requirements.txt
	@touch $@

$(VENV)/web: Makefile | $(VENV)/python
	@$(HAS_NODE) \
	  || { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -qq --yes nodejs npm && $(HAS_NODE); } \
	  || { echo "Checking web/ takes Node 20 or later with npm. On Debian 13, as root: apt install nodejs npm"; exit 1; }
	@npm install --prefix $(VENV) --no-save --no-audit --no-fund --silent $(NODE_TOOLS)
	@touch $@

$(VENV)/browser: | $(VENV)/python
	@dpkg -s $(BROWSER) >/dev/null 2>&1 \
	  || { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -qq --yes $(BROWSER); } \
	  || { echo "The tests of the page take a browser and fonts. On Debian, as root: apt install $(BROWSER)"; exit 1; }
	@touch $@
