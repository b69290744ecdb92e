# Everything a newcomer or CI does here, one word each. What has to be installed first, scripts/bootstrap.sh
# finds out and installs; a second run finds nothing to do and says nothing.

SHELL = /bin/sh
VENV ?= .venv
MOUNTPOINT ?=
TESTFLAGS ?=
BENCHFLAGS ?=
# Many tests wait for a server or the kernel more than they compute, so one worker more than two cores.
WORKERS ?= 3
export VENV PYTHON
export PATH := $(PATH):/usr/sbin:/sbin# an ordinary user's may lack them, and logrotate lies there

PY = $(VENV)/bin/python

.PHONY: help demo demo-stop test bench lint types check fresh clean

help:
	@echo 'make demo       mount a sample bucket on this machine, without an account'
	@echo 'make demo-stop  unmount it and stop its server'
	@echo 'make test       run the tests'
	@echo 'make bench      compare with rclone mount, write docs/benchmarks.md (root, half an hour)'
	@echo 'make lint       look at style: ruff check, ruff format'
	@echo 'make types      check types: mypy --strict'
	@echo 'make check      lint, types and test: what CI runs'
	@echo 'make fresh      demo and test on an imitation of a fresh Debian machine (root, minutes)'
	@echo 'make clean      remove what make made, .venv included'
	@echo
	@echo 'PYTHON=python3.12       another interpreter        VENV=DIR  another virtual environment'
	@echo 'TESTFLAGS="-k WORD -x"  more words for pytest  WORKERS=N  tests at once  MOUNTPOINT=DIR  where the demo is mounted'

demo:
	@scripts/bootstrap.sh demo
	@$(VENV)/bin/b2mount demo $(MOUNTPOINT)

demo-stop:
	@$(VENV)/bin/b2mount demo --stop $(MOUNTPOINT)

test:
	@scripts/bootstrap.sh test
	$(PY) -m pytest -n $(WORKERS) -m 'not slow' $(TESTFLAGS)

bench:
	@scripts/bootstrap.sh bench
	$(PY) -m tests.benchmarks --page docs/benchmarks.md $(BENCHFLAGS)

lint:
	@scripts/bootstrap.sh lint
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types:
	@scripts/bootstrap.sh lint
	$(PY) -m mypy --strict

check: lint types test

fresh:
	tests/fresh/run

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find b2mount tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
