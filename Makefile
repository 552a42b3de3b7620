PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo help test check docs bench slow fuzz sanitize arm ray web wheels targets gpu gpu-train clean

demo: $(VENV)/installed  ## vocode the bundled mel with the bundled voice
	@echo "Loading the bundled voice and vocoding 3.75 s of speech"
	$(BIN)/engine vocode engine/assets/demo_mel.npy -o demo.wav --draft griffin-lim --match-mel 1

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

# Two processes, each of which grows to 6 GB and leaves PyTorch one thread.
test: $(VENV)/installed-test  ## all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 2 --dist worksteal

slow: $(VENV)/installed-test  ## the longer tests
	$(BIN)/python -m pytest -m slow

fuzz: $(VENV)/installed-test  ## 20,000 damaged checkpoints
	$(BIN)/python -m pytest -m fuzz

sanitize: $(VENV)/installed-test  ## 140,000 random cases of the native code under ASan, UBSan and TSan
	$(BIN)/python -m pytest -m sanitize -s

ray: $(VENV)/installed-ray  ## jobs of many files, and the service, on a local Ray cluster
	$(BIN)/python -m pytest -m ray tests/engine/bulk tests/engine/serving

ARM_TOOLS := aarch64-linux-gnu-g++ aarch64-linux-gnu-objdump qemu-aarch64

arm: $(VENV)/installed-test  ## the kernels on an emulated 64-bit Arm processor
	@for tool in $(ARM_TOOLS); do command -v $$tool >/dev/null || { \
		echo "make arm: no $$tool; on Debian: apt-get install g++-aarch64-linux-gnu qemu-user" >&2; exit 1; }; done
	$(BIN)/python -m pytest -m arm

web: $(VENV)/installed-test  ## the page of the service in Chromium (extra `web`)
	@command -v chromium >/dev/null || { echo "make web: no chromium; on Debian: apt-get install chromium" >&2; exit 1; }
	@$(PIP) $(shell sed -n 's/^web = \[\(.*\)\]/\1/p' pyproject.toml | tr -d ,)
	$(BIN)/python -m pytest -m web

wheels: $(VENV)/installed-wheels  ## Linux wheels for x86-64 and 64-bit Arm in dist/, installed and run
	$(BIN)/python -m csrc.tools.wheels dist
	$(BIN)/python -m pytest -m wheels -rs

targets: $(VENV)/installed-wheels  ## compiles csrc for Windows and macOS, and runs nothing
	$(BIN)/python -m csrc.tools.targets

# With the flags of setup.py.
build/arm/runner: tests/arm/runner.cpp setup.py $(shell find csrc/cpu -type f)
	mkdir -p $(@D)
	aarch64-linux-gnu-g++ $(shell sed -n 's/^FLAGS = "\(.*\)"/\1/p' setup.py) -static $(filter %.cpp,$^) -o $@

bench: $(VENV)/installed-bench  ## real-time factors beside the measured peak and the baselines
	$(BIN)/python -m pytest --benchmark

# Stages of under nine minutes together: stack, tests, compare, training; STAGE=stack runs one. Without $(VENV), the
# Python of a CUDA image that holds PyTorch, Triton and pytest: nothing is installed.
gpu:  ## everything that needs a GPU, in stages that print and save what they find
	$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) -m benchmarks.gpu.session --out $(or $(OUT),build/gpu) \
		$(addprefix --stage ,$(STAGE))

# The recordings of the bundled voice. On a machine without them, copy the packed file.
DATA ?= ../shared/data/kerstin_22k
PACK := build/voice-pack.safetensors

$(PACK):
	mkdir -p $(@D)
	$(BIN)/python -m engine.training pack voice --data $(DATA) -o $@

gpu-train: $(VENV)/installed-train $(PACK)  ## ten minutes of training on a GPU: the voice, tuned for few steps and further
	$(BIN)/python -m benchmarks.gpu.training_session $(PACK) --out $(or $(OUT),build/gpu-train)

check: $(VENV)/installed-check  ## formatting, lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	git ls-files '*.cpp' '*.cu' '*.h' '*.inl' | xargs $(BIN)/clang-format --dry-run --Werror
	$(BIN)/mypy -p engine
	$(BIN)/mypy examples
	$(BIN)/mypy -p csrc.tools

docs: $(VENV)/installed-docs  ## the site of the documentation, without a dead link
	$(BIN)/python -m docs.tools.site build/site-pages
	$(BIN)/sphinx-build -q -W --keep-going -c docs -d build/site-cache -b html build/site-pages build/site
	$(BIN)/python -m docs.tools.check_site build/site

# The first run takes a minute or more: every stage says what it does. Of pip only errors are shown.
PIP := $(BIN)/pip install -qq
TESTED := -c tests/constraints.txt
SOURCES := pyproject.toml setup.py $(shell find csrc -type f -not -name "*.pyc")
# Quoted requirements, from the two lists of pyproject.toml that stand on one line.
REQUIREMENTS := $(shell sed -n 's/^\(requires\|dependencies\) = \[\(.*\)\]/\2/p' pyproject.toml | tr -d ,)

OLDEST := $(shell sed -n 's/^requires-python = ">=3\.\([0-9]*\)"/\1/p' pyproject.toml)

# A venv that failed, for lack of Debian's python3-venv for example, would be taken for one that is complete.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, $(OLDEST)) and "make: expected Python 3.$(OLDEST) or newer, \
	got %d.%d; say PYTHON=python3.12 for another" % sys.version_info[:2])'
	@echo "Creating $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { rm -f $@; exit 1; }

$(VENV)/native: $(VENV)/bin/python $(SOURCES)
	@echo "Installing numpy, safetensors and the build tools"
	@$(PIP) $(REQUIREMENTS)
	@echo "Compiling $(words $(filter %.cpp,$(SOURCES))) C++ files"
	@$(BIN)/python setup.py -q build_ext --inplace
	@touch $@

$(VENV)/installed: $(VENV)/native
	@$(PIP) --no-build-isolation --no-deps -e .
	@touch $@

# DistillMOS and the module of its network, 33 MB. Their other requirements (torchaudio, transformers, librosa) read files
# and run networks that the tests do not use.
MOS := distillmos==0.9.1 xls-r-sqa==0.1.0
# The packages whose calls engine.compat takes, 3 MB. Of their other requirements torchaudio has a stand-in in the tests.
COMPAT := diffwave==0.1.7 speechbrain==1.1.0 hyperpyyaml==1.2.3 ruamel.yaml==0.18.17 sentencepiece==0.2.3

$(VENV)/installed-test: $(VENV)/native tests/constraints.txt
	@echo "Installing PyTorch and the test tools (a large download)"
	@$(PIP) $(TESTED) --no-build-isolation -e '.[test]'
	@$(PIP) --no-deps $(MOS) || echo "make test: the tests of the predicted MOS will skip, because $(MOS) are missing"
	@$(PIP) --no-deps $(COMPAT) || echo "make test: the tests of engine.compat will skip, because $(COMPAT) are missing"
	@touch $@ $(VENV)/installed

$(VENV)/installed-bench: $(VENV)/installed-test
	@echo "Installing the baselines"
	@$(PIP) $(TESTED) --no-build-isolation -e '.[test,bench]' || echo "make bench: the baselines of the extra 'bench' are missing"
	@touch $@ $^

$(VENV)/installed-ray: $(VENV)/installed-test
	@echo "Installing Ray (a large download)"
	@$(PIP) $(TESTED) --no-build-isolation -e '.[test,ray]' 'ray[serve]>=2.55,<3'
	@touch $@ $^

$(VENV)/installed-wheels: $(VENV)/installed-test
	@echo "Installing the tools of the wheels (a large download)"
	@$(PIP) $(shell sed -n 's/^wheels = \[\(.*\)\]/\1/p' pyproject.toml | tr -d ,)
	@touch $@

$(VENV)/installed-train: $(VENV)/native tests/constraints.txt
	@echo "Installing PyTorch and the judges (a large download)"
	@$(PIP) $(TESTED) --no-build-isolation -e '.[train,gpu,quality]'
	@touch $@ $(VENV)/installed

$(VENV)/installed-check: $(VENV)/native tests/constraints.txt
	@echo "Installing the linters, PyTorch and the test tools (a large download)"
	@$(PIP) $(TESTED) --no-build-isolation -e '.[test,check]'
	@$(PIP) --no-deps $(MOS) || echo "make test: the tests of the predicted MOS will skip, because $(MOS) are missing"
	@$(PIP) --no-deps $(COMPAT) || echo "make test: the tests of engine.compat will skip, because $(COMPAT) are missing"
	@touch $@ $(VENV)/installed-test $(VENV)/installed

# The site needs neither the package nor a compiler.
$(VENV)/installed-docs: $(VENV)/bin/python pyproject.toml
	@echo "Installing the tools of the site"
	@$(PIP) $(shell sed -n 's/^docs = \[\(.*\)\]/\1/p' pyproject.toml | tr -d ,)
	@touch $@

clean:
	rm -rf build $(VENV) demo.wav kernels/_native.*.so *.egg-info
