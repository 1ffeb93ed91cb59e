# Earwitness: `make demo` shows the product, `make test` proves it. Both set up what they need.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
LOCK   := requirements/dev.lock
STAMP  := $(VENV)/.installed

# What outlives a checkout. mypy keys what it keeps by its version, its settings and what the files say.
CACHE  := $(or $(EARWITNESS_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/earwitness)
export MYPY_CACHE_DIR ?= $(CACHE)/mypy

.DEFAULT_GOAL := help
.PHONY: help demo test test-system test-box lint format proto lock bench clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The stamp holds for one lock file and one project file; pip checks every hash.
$(STAMP): $(LOCK) pyproject.toml
	@$(PYTHON) tools/bootstrap.py $(VENV) $(LOCK)
	@touch $@

demo: $(STAMP)  ## four calls recorded, shown, verified, rendered, one erased
	@$(BIN)/earwitness demo

test: $(STAMP)  ## unit and integration tests, no root and no network but loopback
	@$(BIN)/python -m pytest -n 2 --dist worksteal -m "not postgresql" tests --ignore tests/system --ignore tests/box

test-system: $(STAMP)  ## real peers: sipp, baresip, tshark, PostgreSQL (installed from Debian; wants root)
	@sh tests/system/install-peers.sh
	@$(BIN)/python -m pytest tests/system
	@$(BIN)/python -m pytest -n 2 --dist worksteal -m postgresql tests/catalog tests/api tests/whole

test-box: $(STAMP)  ## inside an emulated Debian with OpenZFS (built once, in minutes; wants root)
	@sh tests/box/install-host.sh
	@$(BIN)/python -m image.guest build
	@$(BIN)/python -m pytest tests/box

lint: $(STAMP)  ## ruff, mypy, import walls, buf, generated code up to date
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@PATH="$(BIN):$$PATH" lint-imports
	@PATH="$(BIN):$$PATH" $(BIN)/python tools/generate_proto.py --check
	@$(BIN)/buf lint
	@$(BIN)/buf breaking --against proto/baseline.binpb

format: $(STAMP)  ## put the code into the house style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

proto: $(STAMP)  ## generate the stubs from proto/
	@PATH="$(BIN):$$PATH" $(BIN)/python tools/generate_proto.py

bench: $(STAMP)  ## figures as ratios: capture, inline calls beside rtpengine (Debian), rendering, stored bytes
	@sh tests/system/install-peers.sh
	@$(BIN)/python -m bench

lock: $(STAMP)  ## resolve requirements/dev.lock anew
	@$(BIN)/python tools/lock.py

clean:  ## forget the environment
	rm -rf $(VENV) build *.egg-info
