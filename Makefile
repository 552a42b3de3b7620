PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check bench slow fuzz sanitize arm gpu clean

demo: $(VENV)/installed  ## vocode the bundled mel with the bundled voice
	$(BIN)/engine vocode engine/assets/demo_mel.npy -o demo.wav

# Side by side in two processes (each grows to 6 GB), of which each leaves PyTorch one thread.
test: $(VENV)/installed-test  ## all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 2 --dist worksteal

slow: $(VENV)/installed-test  ## the longer proofs
	$(BIN)/python -m pytest -m slow

fuzz: $(VENV)/installed-test  ## 20,000 damaged checkpoints
	$(BIN)/python -m pytest -m fuzz

sanitize: $(VENV)/installed-test  ## 140,000 random cases of the native code under ASan, UBSan and TSan
	$(BIN)/python -m pytest -m sanitize -s

ARM_TOOLS := aarch64-linux-gnu-g++ aarch64-linux-gnu-objdump qemu-aarch64

arm: $(VENV)/installed-test  ## the kernels on an emulated 64-bit Arm processor
	@for tool in $(ARM_TOOLS); do command -v $$tool >/dev/null || { \
		echo "make arm: no $$tool; on Debian: apt-get install g++-aarch64-linux-gnu qemu-user" >&2; exit 1; }; done
	$(BIN)/python -m pytest -m arm

# As setup.py compiles them.
build/arm/runner: tests/arm/runner.cpp setup.py $(shell find csrc/cpu -type f)
	mkdir -p $(@D)
	aarch64-linux-gnu-g++ $(shell sed -n 's/^FLAGS = "\(.*\)"/\1/p' setup.py) -static $(filter %.cpp,$^) -o $@

bench: $(VENV)/installed-bench  ## real-time factors, beside the peak and the peers
	$(BIN)/python -m pytest --benchmark

gpu: $(VENV)/installed-test  ## the tests and times that want a GPU
	$(BIN)/python -m pytest tests/gpu/test_on_gpu.py tests/gpu/test_training_on_gpu.py
	$(BIN)/python -m pytest --benchmark -m gpu

# engine.kernels is the folder kernels/: mypy needs to see it in its place.
check: $(VENV)/installed-check  ## formatting, lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	git ls-files '*.cpp' '*.cu' '*.h' '*.inl' | xargs $(BIN)/clang-format --dry-run --Werror
	rm -rf build/types && mkdir -p build/types/engine
	ln -s $(CURDIR)/engine/*.py* $(CURDIR)/engine/bench $(CURDIR)/engine/training build/types/engine/
	ln -s $(CURDIR)/kernels build/types/engine/kernels
	cd build/types && MYPYPATH=. $(CURDIR)/$(BIN)/mypy --config-file $(CURDIR)/pyproject.toml -p engine

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

SOURCES := pyproject.toml setup.py $(shell find csrc -type f)

$(VENV)/installed: $(VENV)/bin/python $(SOURCES)
	$(BIN)/pip install -q -e .
	touch $@

$(VENV)/installed-test: $(VENV)/bin/python $(SOURCES)
	$(BIN)/pip install -q -e '.[test]'
	touch $@ $(VENV)/installed

$(VENV)/installed-bench: $(VENV)/installed-test
	$(BIN)/pip install -q -e '.[test,bench]' || echo "make bench: without the peers of the extra 'bench'"
	touch $@ $^

$(VENV)/installed-check: $(VENV)/bin/python $(SOURCES)
	$(BIN)/pip install -q -e '.[test,check]'
	touch $@ $(VENV)/installed-test $(VENV)/installed

clean:
	rm -rf build $(VENV) demo.wav engine/kernels/_native.*.so *.egg-info
