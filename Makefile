# SPDX-License-Identifier: Apache-2.0
PYTHON ?= python3
ARGS ?=
# The distribution whose wheels are installed: jazzy, which lives longest of those that PyPI has, or kilted.
ROS ?= jazzy
ROUTE := $(if $(filter jazzy,$(ROS)),msg,$(if $(filter kilted,$(ROS)),msg/kilted,$(error ROS is $(ROS), but wheels \
	are there of kilted and jazzy alone; for another distribution see docs/ros.md)))
VENV ?= $(if $(filter jazzy,$(ROS)),.venv,.venv-$(ROS))
PINS := --constraint constraints.txt --constraint $(ROUTE)/constraints.txt

BIN := $(VENV)/bin
SOURCES := $(shell find src launch config resource scripts -type f -not -path '*/__pycache__/*' -not -path '*.egg-info/*' 2>/dev/null)
MESSAGES := $(shell find msg -type f)

# The wheels set no environment; a sourced ROS installation must not mix with them.
space := $() $()
export AMENT_PREFIX_PATH := $(abspath $(VENV))
export LD_LIBRARY_PATH := $(subst $(space),:,$(filter-out /opt/ros/%,$(subst :, ,$(LD_LIBRARY_PATH))))
export RMW_IMPLEMENTATION := rmw_fastrtps_cpp
unexport PYTHONPATH _ROS_WHEELS_BOOTSTRAP_COMPLETE
# Nothing leaves this machine, and the simulator renders without a display.
export ROS_AUTOMATIC_DISCOVERY_RANGE ?= LOCALHOST
export MUJOCO_GL ?= egl

.PHONY: help demo test lint docs install clean
.DELETE_ON_ERROR:

help:
	@echo "make demo      install everything into $(VENV), run one instruction in simulation; ARGS='...' goes to vla-sd demo"
	@echo "make test      install everything into $(VENV), run the tests; ARGS='...' goes to pytest"
	@echo "make lint      look at the code and its format with ruff, and at its types with mypy; installs both into $(VENV)"
	@echo "make docs      build the documentation as a site into site/"
	@echo "make install   only install into $(VENV)"
	@echo "make clean     remove $(VENV) and what building leaves behind"

demo: install
	@$(BIN)/vla-sd demo $(ARGS)

# Two at a time, by files. What starts nodes waits most of its time, and keeps time: so it shares the machine with nothing but
# its like, and what fails in that company must fail once more alone. All of it runs, whatever fails.
NODES := test/arms test/drivers test/launch test/nodes test/ros
TWO := $(BIN)/pytest -n 2 --dist loadfile
test: install
ifeq ($(strip $(ARGS)),)
	@failed=0; \
	$(TWO) $(addprefix --ignore=,$(NODES)) test || failed=1; \
	$(TWO) $(NODES) || { echo "What failed, once more alone:"; $(BIN)/pytest --last-failed $(NODES); } || failed=1; \
	exit $$failed
else
	@$(BIN)/pytest $(ARGS)
endif

lint: $(VENV)/.lint
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check --quiet || { echo "not formatted: $(BIN)/ruff format"; exit 1; }
	@$(BIN)/mypy

# A link that leads nowhere fails.
docs: $(VENV)/.docs install
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Three stamps, so that an edit repeats only what it touches: system and environment, messages and dependencies, package.
install: $(VENV)/.package

# Named for the distribution: an environment of another one would be half of each.
$(VENV)/.environment-$(ROS): tools/system_packages.py
	@$(PYTHON) tools/system_packages.py
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.dependencies: $(VENV)/.environment-$(ROS) setup.py setup.cfg pyproject.toml constraints.txt $(MESSAGES)
	@echo "Installing ROS 2, the messages, torch and the simulator into $(VENV): some minutes the first time."
	$(BIN)/pip install -q --disable-pip-version-check $(PINS) ./$(ROUTE) '.[cluster,data,fleet,serve,sim,test,trial]'
	$(BIN)/pip install -q --disable-pip-version-check --no-deps openpi-client==0.1.2  # asks for numpy 1, runs with 2
	@for arm in franka trossen; do \
		$(BIN)/pip install -q --disable-pip-version-check $(PINS) \
			--only-binary franky-control,franky-sim,trossen-arm,trossen-arm-sim ".[$$arm,$$arm-sim]" \
			|| echo "no wheels of the library of $$arm for this machine: the tests of that arm are skipped"; \
	done
	@touch $@

$(VENV)/.package: $(VENV)/.dependencies $(SOURCES) package.xml
	@rm -rf build/lib build/bdist.*  # setuptools would pack again what is no longer in src
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --force-reinstall .
	@touch $@

$(VENV)/.lint $(VENV)/.docs: $(VENV)/.%: $(VENV)/.dependencies
	@rm -rf build/lib build/bdist.*
	$(BIN)/pip install -q --disable-pip-version-check $(PINS) '.[$*]'
	@touch $@

clean:
	rm -rf .venv .venv-* build install log dist site src/*.egg-info
