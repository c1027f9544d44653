# The two commands of this project are `make run` and `make test`; CONTRIBUTING.md tells about the others.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONFIG ?= config.toml

# A virtual environment that was made elsewhere (a copied clone) runs the code that lies there: make it again.
ifneq ($(shell cat $(VENV)/.ready-run 2>/dev/null),$(CURDIR))
$(shell rm -f $(VENV)/.ready-run $(VENV)/.ready-test)
endif

# The tests start many hundred processes; where nothing compiled is kept, each of them compiles all of it again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test check prove bench format clean

run: $(VENV)/.ready-run
	@exec $(BIN)/hmacfs serve --config $(CONFIG)

# Everything, with real servers. CI=true turns a skipped live test into a failure. Two at a time: of three on two cores
# one waits for a processor now and then, and some tests measure what clients wait.
test: $(VENV)/.ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadfile

# What a developer runs before every commit: under a minute.
check: $(VENV)/.ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q --ignore tests/live --ignore tests/clients --ignore tests/install --ignore tests/cli

# Slow sweeps: twenty power cuts, long windows of time. Name parts with PROVE="tests/prove/test_slow_rates.py".
PROVE ?= tests/prove
prove: $(VENV)/.ready-test
	HMACFS_PROVE=1 $(BIN)/python -m pytest $(PROVE)

# Side by side with nginx and plain Flask, for example: make bench BENCH="--store /var/tmp --only 'put-*'"
bench: $(VENV)/.ready-run
	@$(BIN)/python bench/run.py $(BENCH)

format: $(VENV)/.ready-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

# The virtual environment is made again whenever the dependencies change, and only then.
$(VENV)/.ready-run: setup.cfg tools/setup.sh
	@PYTHON=$(PYTHON) sh tools/setup.sh run $(VENV)

$(VENV)/.ready-test: setup.cfg tools/setup.sh tests/clients/js/package-lock.json
	@PYTHON=$(PYTHON) sh tools/setup.sh test $(VENV)
