# `make demo` and `make test` do everything on a fresh machine; every other target depends on setup and does nothing twice.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
COMPILED := .venv-compiled
# Most of the tests' time is waiting, so more of them run side by side than there are cores. Files stay whole and in order:
# a file's tests share what they start, and those of tests/e2e come last (tests/conftest.py).
TEST_WORKERS ?= 4
SIDE_BY_SIDE := -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder

# Where this is set, each of the hundreds of processes that tests start would compile all sources again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: setup demo test lint differential mutants compiled differential-compiled proto bench soak peers-java clean

setup: $(STAMP)

$(STAMP): setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@

demo: setup
	$(BIN)/mosn-xds demo

# Real processes on a shared machine: what fails is tried again, and named in the summary all the same. What enters networks of
# its own has processes of its own (tests/conftest.py), and what measures time comes by itself, behind the rest.
test: setup
	failed=0; \
	$(BIN)/python -m pytest -m 'not soak and not alone and not network' $(SIDE_BY_SIDE) --reruns 2 || failed=1; \
	$(BIN)/python -m pytest tests/e2e -m 'network and not soak and not alone' $(SIDE_BY_SIDE) --reruns 2 || failed=1; \
	$(BIN)/python -m pytest -m 'alone and not soak' --reruns 2 || failed=1; \
	exit $$failed

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

differential: setup
	$(BIN)/python -m pytest tests/differential $(SIDE_BY_SIDE)

# Every differential case fails when its behaviour is switched off.
mutants: setup
	$(BIN)/python -m tests.mutation.run

# The data half translated to C by mypyc (setup.py): a few minutes of compiler, and an environment of its own that finds
# its libraries in the other one. What is in $(VENV) stays as it is written.
compiled: $(COMPILED)/.installed

$(COMPILED)/.installed: $(STAMP) setup.py $(shell find mosn_xds -name '*.py')
	test -x $(COMPILED)/bin/python || $(BIN)/python -m venv --without-pip $(COMPILED)
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> "$$($(COMPILED)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/libraries.pth"
	rm -rf build
	$(BIN)/python -m pip --python $(COMPILED)/bin/python install --quiet --no-deps --force-reinstall .
	rm -rf build
	touch $@

# What the interpreted form has to pass, too: whole processes only, for unit tests look inside.
differential-compiled: compiled
	MOSN_XDS_PROXY=$(COMPILED)/bin/mosn-xds-proxy $(BIN)/python -m pytest tests/differential tests/e2e -m 'not soak' --reruns 2

# Our own messages, compiled into mosn_xds/extensions. The compiler is of the version that xds-protos was made with, which is
# older than the protobuf it runs with: it has a folder of its own.
proto: setup
	test -d $(VENV)/proto-tools || \
	$(BIN)/python -m pip install --quiet --no-deps --target $(VENV)/proto-tools grpcio-tools==1.76.0
	PYTHONPATH=$(VENV)/proto-tools $(BIN)/python proto/generate.py

bench: setup
	$(BIN)/python -m bench

soak: setup
	$(BIN)/python -m pytest -m soak

# Each RPC codec under damaged frames of real peers: by hypothesis, and by atheris where pip finds a wheel of it.
FUZZ_SECONDS ?= 60
.PHONY: fuzz
fuzz: setup
	$(BIN)/python -m pip install --quiet --only-binary :all: 'atheris >= 3' || echo 'no atheris here: hypothesis alone'
	$(BIN)/python -m tests.fuzz.run --seconds $(FUZZ_SECONDS)

# Bolt and Dubbo between Java's own peers (JDK 17 and Maven): the tests that Node's and Python's pass in `make test`.
peers-java: setup
	cd tests/peers/java && mvn --quiet --batch-mode package
	MOSN_XDS_PEERS=java $(BIN)/python -m pytest tests/e2e/test_rpc_peers.py tests/e2e/test_rpc_peer_faults.py \
		tests/e2e/test_dubbo_timeouts.py -m 'not soak' --reruns 2

clean:
	rm -rf $(VENV) $(COMPILED) build dist *.egg-info
