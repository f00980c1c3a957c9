# Every chore is one word; `make help` lists them. Nothing but python3 (3.11 or newer, with venv), gcc and make is needed.
#
#   make PYTHON=/path/to/python3.12 test    another Python
#   make test ARGS="-k timers -x"           arguments for the command behind the chore
#
# What is up to date is decided in tools/venv.py (the environment) and tools/build.py (the compiled core).

PYTHON ?= python3
VENV ?= .venv
TARGET ?= test
ARGS ?=

BIN := $(VENV)/bin
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

need = $(PYTHON) tools/venv.py $(VENV)
build = $(BIN)/python tools/build.py

.PHONY: help demo test lint format bench conformance sanitize docs test-all test-debian build clean python

help: ## what there is (this list)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: python ## build weft and run `weft race`: one after another, threads, coroutines
	@$(need) race --try bench
	@$(build)
	$(BIN)/weft race $(ARGS)

test: python ## build weft and run the tests
	@$(need) test --try frameworks --try cluster
	@$(build)
	$(BIN)/python -m pytest $(ARGS)

lint: python ## ruff (rules and format) and mypy
	@$(need) lint test --try frameworks
	@failed=; for check in "ruff check ." "ruff format --check ." "mypy $(wildcard src/weft tools bench tests examples)"; do \
	    echo "$$check"; $(BIN)/$$check || failed="$$failed $${check%% *}"; \
	done; if [ "$$failed" ]; then echo "make lint: failed:$$failed"; exit 1; fi

format: python ## let ruff put the code into shape
	@$(need) lint test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: python ## measure weft against its peers, side by side
	@$(need) race --try bench --try peers --try clients
	@$(build)
	$(BIN)/python -m bench $(ARGS)

conformance: python ## run CPython's own asyncio tests against weft
	@$(need) test
	@$(build)
	$(BIN)/python -m tools.conformance $(ARGS)

sanitize: python ## run the tests with the core compiled with AddressSanitizer and UndefinedBehaviorSanitizer
	@$(need) test
	@$(BIN)/python tools/sanitize.py $(ARGS)

docs: python ## check that the pages agree with each other and with the code
	@$(need) test
	@$(build)
	$(BIN)/python -m pytest tests/test_docs.py tests/test_guide.py tests/test_exports.py $(ARGS)

test-all: python ## make test (or TARGET=...) for every CPython >= 3.11 that is installed
	@$(PYTHON) tools/every_python.py --make-target $(TARGET)

test-debian: ## the same for 3.14 (and 3.15 where there) in a root of Debian testing; needs root
	@tools/debian.sh $(TARGET)

build: python ## compile the core and install weft into .venv, no more
	@$(need)
	@$(build)

clean: ## remove what was built (the Debian root too with ALL=1)
	rm -rf .venv .venv-3.* dist .mypy_cache .ruff_cache .pytest_cache .hypothesis src/*.egg-info
	find src -name '*.so' -delete
	find . -name __pycache__ -not -path './build/*' -prune -exec rm -rf {} +
	if [ -d build ]; then find build -mindepth 1 -maxdepth 1 $(if $(ALL),,! -name debian) -exec rm -rf {} +; fi

python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("weft needs Python 3.11 or newer and $(PYTHON) is %d.%d: make PYTHON=/path/to/python3.11 ..." % sys.version_info[:2])'
