# make setup   create the virtual environment with everything in it (quick when nothing changed)
# make demo    one trial of one_leg on the simulated cell with the shipped policy, and its report
# make test    everything that must hold before a commit lands: lint, types, tests
# VENV=DIR uses another virtual environment, PYTEST_ARGS=... goes to pytest.

VENV ?= .venv
PYTEST_ARGS ?=
BIN := $(VENV)/bin

# DDS stays on this machine
export ROS_AUTOMATIC_DISCOVERY_RANGE ?= LOCALHOST

.PHONY: setup demo test lint format clean

setup:
	@scripts/setup.sh $(VENV)

# another ROS graph on this machine keeps its own domain
demo: export ROS_DOMAIN_ID ?= 77
demo: setup
	$(BIN)/resip trial one_leg --n 1 --seed 0

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/basedpyright --pythonpath $(BIN)/python

test: lint
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pytest $(PYTEST_ARGS)

format: setup
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf ros2_ws/build ros2_ws/install ros2_ws/log .pytest_cache .ruff_cache .hypothesis
