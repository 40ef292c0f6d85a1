# Every target sets up what it needs: Debian packages (through sudo where needed), a virtual environment, the lab.
#   make acceptance                    the suites on the built-in lab
#   make acceptance HOSTS=hosts.dat    the suites on your own hosts; with CLOUD=NAME, those for OpenStack as well
#   make acceptance CONFINED=yes       the suites on the lab, every guest confined by AppArmor
#   make acceptance SHAPE=cxl          the suites on lab hosts of another shape: nfit-test, cxl, unlabeled
#   make acceptance RELEASE=bookworm   the suites on lab hosts of another release of Debian: bookworm, forky
#   make acceptance ROUGH=no           without the second run of some suites by the rough entries; ROUGH='claims' for one
#   make openstack                     the suites for OpenStack on the lab's cloud (as root), or by CLOUD=NAME HOSTS=hosts.dat
#   make openstack RELEASE=sid         the same on the Nova of Debian's unstable release; CONFINED=yes as above
#   make kill-test                     runs are ended in six ways at twenty points each; POINTS=5 SEED=3 for others
#   make test                          linters, types, unit tests with coverage, and the integration tests on the lab
#   make fuzz                          ten thousand texts at each place where outside text enters; EXAMPLES=...
#   make shards                        the suites by two controllers at once, on one lab; SUITES=... for some of them
#   make lab-in-lab                    the lab in an emulated lab host, which shows its way with KVM (some ten minutes)
#   make ndctl-tests                   ndctl's own tests on a lab host with the kernel's test bus; ONLY='create.sh' for some
#   make crash                         QEMU killed two hundred times while a guest writes
#   make alone                         tests chosen at random, each alone; SEED=3 TESTS=5 for others
#   make lock                          requirements/ for a changed pyproject.toml; UPGRADE=yes takes the newest versions
#   make release                       the wheel and the source distribution, in dist/
#   make docs                          the keywords in results/VpmemLibrary.html, the fields in docs/hosts-file.md
#   make scenarios                     the table of docs/scenarios.md, from the results of the last run of each kind

SHELL := /bin/bash
BIN := .venv/bin
HOSTS ?=
CLOUD ?=
CONFINED ?=
ROUGH ?=
SHAPE ?=
RELEASE ?=
PROCESSES ?=
SUITES ?= suites
ROBOT_OPTIONS ?=
PYTEST_OPTIONS ?=
KILLS ?= 200
POINTS ?= 20
SEED ?= 2
TESTS ?= 5
ONLY ?=
UPGRADE ?=
EXAMPLES ?= 10000

export HOSTS CLOUD CONFINED ROUGH SHAPE RELEASE PROCESSES SUITES ROBOT_OPTIONS UPGRADE

.DEFAULT_GOAL := help
# Targets use what `setup` makes, so -j (or MAKEFLAGS) must not start them beside it.
.NOTPARALLEL:
.PHONY: help setup lock acceptance openstack test image lint unit integration fuzz bench soak lab-in-lab shards ndctl-tests crash kill-test alone scenarios docs release clean

help:
	@sed -n '/^#/!q; s/^# //p' Makefile

setup:
	@scripts/setup

lock:
	@scripts/lock

acceptance: setup
	@status=0; scripts/acceptance || status=$$?; [ -z '$(CLOUD)' ] || scripts/openstack || status=$$?; exit $$status

openstack: setup
	@scripts/openstack

# The integration tests need the lab's image. It is built beside the linters and the unit tests. If that fails, the
# integration tests fail with the same error.
test: setup image lint unit integration

# Without a terminal, the lab reports its progress in lines. A command in the background ignores SIGINT otherwise.
image:
	@env --default-signal=INT $(BIN)/vpmem lab build 2>&1 | cat &

lint:
	$(BIN)/ruff format --check VpmemLibrary resources tests examples
	$(BIN)/ruff check VpmemLibrary resources tests examples
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/robocop format --check --no-overwrite suites resources examples
	$(BIN)/robocop check suites resources examples
	$(BIN)/shellcheck --external-sources \
	    $$(grep -rlIE -m1 '^#!.*[/ ](ba)?sh( |$$)' scripts resources VpmemLibrary) $$(find resources VpmemLibrary -name '*.sh')

# The unit tests wait for other processes most of the time, so three run at once on two cores. Some of the tests, chosen
# by PYTEST_OPTIONS, are run without coverage: they would miss its floor.
unit:
	$(BIN)/pytest tests/unit --numprocesses 3 --dist loadfile $(if $(PYTEST_OPTIONS),$(PYTEST_OPTIONS),--cov --cov-report=)

integration:
	$(BIN)/pytest tests/integration --numprocesses 2 --dist loadfile $(PYTEST_OPTIONS)

fuzz: setup
	FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/pytest tests/unit -m fuzz $(PYTEST_OPTIONS)

bench: setup
	$(BIN)/pytest tests/benchmarks -s $(PYTEST_OPTIONS)

soak: setup
	$(BIN)/python -m VpmemLibrary.lab.soak

lab-in-lab: setup
	VPMEM_STATE='$(CURDIR)/.lab-in-lab' $(BIN)/python -m VpmemLibrary.lab.in_lab

shards: setup
	@scripts/shards

ndctl-tests: setup
	VPMEM_STATE='$(CURDIR)/.lab-ndctl' $(BIN)/python -m VpmemLibrary.lab.ndctl_tests $(ONLY)

crash: setup
	@SUITES=suites/crash.robot ROBOT_OPTIONS="--variable KILLS:$(KILLS) $(ROBOT_OPTIONS)" scripts/acceptance

alone: setup
	@SEED='$(SEED)' TESTS='$(TESTS)' scripts/alone

scenarios: setup
	$(BIN)/python scripts/scenario_table

kill-test: setup
	@SUITES=suites/killed_runs.robot ROBOT_OPTIONS='--variable POINTS:$(POINTS) --variable SEED:$(SEED) $(ROBOT_OPTIONS)' scripts/acceptance

release: setup
	rm -rf dist
	$(BIN)/hatchling build

docs: setup
	$(BIN)/libdoc VpmemLibrary results/VpmemLibrary.html
	$(BIN)/python scripts/hosts_file_page

clean:
	rm -rf results/* .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis
