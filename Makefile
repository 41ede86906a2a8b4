# The commands to know. Each brings what it needs: Python 3.11 or later is all that must be there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The page is tested in a real browser, in English, Chinese and emoji. These are Debian's packages.
BROWSER := chromium fonts-noto-cjk fonts-noto-color-emoji
# What checks the modules in web/, from npm: their types, their form, and whether everybody can use the page.
NODE_TOOLS := typescript@7.0.2 prettier@3.10.1 axe-core@4.14.1
HAS_NODE := command -v npm >/dev/null && node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)'

.PHONY: help run test check bench clean

help:  ## show this
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: $(VENV)/runtime  ## serve, with the settings of config.yaml
	@$(BIN)/python server.py run

test: $(VENV)/tests $(VENV)/browser  ## check the code, then run every test
	@$(MAKE) --no-print-directory check
	$(BIN)/python -m pytest --numprocesses auto

check: $(VENV)/tests $(VENV)/web  ## style and types only
	$(BIN)/ruff check --line-length 120 --target-version py311 --select E,F,I,UP,B,C4,SIM,RUF,DTZ --ignore RUF001,SIM117 .
	$(BIN)/ruff format --check --line-length 120 --target-version py311 .
	$(BIN)/mypy
	$(VENV)/node_modules/.bin/prettier --log-level warn --check --no-semi --single-quote --print-width 120 \
	  'web/**/*.{js,ts,css}' 'tests/web/*.{mjs,ts}'
	$(VENV)/node_modules/.bin/tsc --project tests/web
	$(VENV)/node_modules/.bin/tsc --noEmit --strict --checkJs --target es2023 --lib es2023,webworker web/sw.js

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

$(VENV)/web: Makefile | $(VENV)/python
	@$(HAS_NODE) \
	  || { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -qq --yes nodejs npm && $(HAS_NODE); } \
	  || { echo "The modules in web/ are checked by Node 20 or later, with npm. On Debian 13, as root: apt install nodejs npm"; exit 1; }
	@npm install --prefix $(VENV) --no-save --no-audit --no-fund --silent $(NODE_TOOLS)
	@touch $@

$(VENV)/browser: | $(VENV)/python
	@dpkg -s $(BROWSER) >/dev/null 2>&1 \
	  || { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -qq --yes $(BROWSER); } \
	  || { echo "The tests of the page need a browser and fonts. On Debian, as root: apt install $(BROWSER)"; exit 1; }
	@touch $@
