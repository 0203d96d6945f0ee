# make run    everything in the foreground, from a fresh clone to a charged call; Ctrl-C stops it
# make test   lint, types and every test
# make bench  the load run beside FreeRADIUS; prints, decides nothing
# make compiled  machine code for the hot path; make run does it where it can
# make .venv  the environment and nothing else

# A Python compiled without profile-guided optimisation, as some version managers build it,
# answers a third fewer calls: of those at hand that can make an environment, the first that
# was optimised (a distribution's is), else python3. Another one: make PYTHON=python3.13
PYTHON ?= $(shell for python in python3 /usr/bin/python3 /usr/local/bin/python3; do \
    $$python -c 'import ensurepip, sys, sysconfig, venv; \
        options = sysconfig.get_config_var("CONFIG_ARGS") or ""; \
        sys.exit(sys.version_info < (3, 11) \
            or ("--enable-optimizations" not in options and sys.prefix != "/usr"))' \
        2>/dev/null && { echo $$python; exit; }; done; echo python3)
BIN := .venv/bin
# Nothing is asked: there may be no terminal.
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --no-input
# Tests with a server or a database wait more than they work: more of them than of cores.
PROCESSES := --numprocesses=3
# What these are about is never compiled.
INTERPRETED := rating/test_money.py rating/test_period.py radius/test_dictionary.py \
    radius/test_nonce.py
SOURCES := aaa_server tests $(wildcard bench) $(wildcard web_reports)

.DELETE_ON_ERROR:
.PHONY: run compiled test test-compiled needs lint types bench coverage lock clean .venv

# A server is the same without it, and slower.
run: .venv
	@$(MAKE) --no-print-directory compiled \
	    || echo "the hot path could not be compiled: it is interpreted" >&2
	@exec $(BIN)/sky-aaa serve --demo

.venv: .venv/.installed

.venv/.installed: pyproject.toml requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "Python 3.11 or newer is needed; say which: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' \
	    || { echo "Python's venv is needed (Debian: apt-get install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(PIP) install -r requirements.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.installed-test: .venv/.installed requirements-test.txt
	$(PIP) install -r requirements-test.txt
	@touch $@

# Does nothing while what was made is of the sources as they are, nor without a C compiler.
compiled: .venv
	@if $(BIN)/python -m aaa_server.compile --wanted; then \
	    echo "compiling the hot path: a minute, once"; \
	    $(PIP) install -r requirements-compile.txt && $(BIN)/python -m aaa_server.compile; \
	fi

lint: needs .venv/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	luacheck --quiet --config lua/.luacheckrc lua

types: .venv/.installed-test
	$(BIN)/mypy $(SOURCES)

# The compiler needs one core for a minute, and meanwhile another does the rest.
test: needs .venv/.installed-test
	@$(MAKE) --no-print-directory --jobs=2 compiled lint types
	$(BIN)/python -m pytest $(PROCESSES) --dist=loadfile
	@$(MAKE) --no-print-directory test-compiled

# The same claims about the compiled hot path, test by test: most are of one file.
test-compiled: compiled .venv/.installed-test
	$(BIN)/python -m tests.compiled $(PROCESSES) --dist=load --maxschedchunk=1 \
	    tests/charging tests/rating tests/radius tests/test_group_commit.py \
	    $(INTERPRETED:%=--ignore=tests/%)

needs:
	@PYTHON=$(PYTHON) .ci/needs

coverage: .venv/.installed-test
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage report --show-missing --skip-covered

bench: .venv compiled
	$(BIN)/python -m bench

# Writes the requirements files anew from pyproject.toml's pins. setuptools is among them
# because the editable install builds without an isolated environment of its own.
lock:
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip --quiet install setuptools==84.2.1 .
	.venv-lock/bin/python -m pip freeze --all --exclude pip --exclude sky-aaa > requirements.txt
	.venv-lock/bin/python -m pip --quiet install '.[compile]'
	.venv-lock/bin/python -m pip freeze --all --exclude pip --exclude sky-aaa > requirements-compile.txt
	.venv-lock/bin/python -m pip --quiet install '.[test]'
	.venv-lock/bin/python -m pip freeze --all --exclude pip --exclude sky-aaa > requirements-test.txt
	rm -rf .venv-lock build *.egg-info

clean:
	rm -rf .venv build dist *.egg-info
