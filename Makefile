# Two commands for a newcomer: `make demo` and `make test`. Both need only Python 3.11 to 3.14.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STORE ?= certvae-store

.PHONY: demo test test-slow test-any-cpu test-lowest-cpu mutants gpu format docs rooms readme lock clean

demo: $(VENV)/.ready
	$(BIN)/python sweeps/tiny_fixed_q.py --data digits --store $(STORE)

test: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python -m pytest -n logical --maxprocesses 4

# Half an hour on two cores: thousands of drawn inputs, struck studies, several hosts in network namespaces.
test-slow: $(VENV)/.ready
	$(BIN)/python -m pytest -m slow -n logical --maxprocesses 4 --ignore tests/benchmarks

# Numbers that a processor computes its own way: all else is the same everywhere.
NUMERIC := $(addprefix tests/,test_certificate.py test_simultaneous.py test_simplex.py test_equilibrium.py test_quality.py test_papers.py \
	training teachers evaluation protocols models)
# Instruction sets that an x86-64 processor can be told to use: PyTorch, oneDNN, OpenBLAS, MKL and numpy in turn.
LOWEST := ATEN_CPU_CAPABILITY=default DNNL_MAX_CPU_ISA=SSE41 OPENBLAS_CORETYPE=Nehalem MKL_CBWR=COMPATIBLE \
	NPY_DISABLE_CPU_FEATURES="X86_V3 X86_V4 AVX512_ICL AVX512_SPR"
numeric = OMP_NUM_THREADS=1 $(1) $(BIN)/python -m pytest $(NUMERIC)

test-lowest-cpu: $(VENV)/.ready
	$(call numeric,$(LOWEST))

test-any-cpu: test-lowest-cpu
	$(call numeric,)
	$(call numeric,ATEN_CPU_CAPABILITY=default)
	$(call numeric,ATEN_CPU_CAPABILITY=avx2)
	$(call numeric,DNNL_MAX_CPU_ISA=SSE41)
	$(call numeric,OPENBLAS_CORETYPE=Haswell)
	$(if $(shell grep -m 1 avx512f /proc/cpuinfo),$(call numeric,OPENBLAS_CORETYPE=SkylakeX))
	$(call numeric,NPY_DISABLE_CPU_FEATURES="X86_V4 AVX512_ICL AVX512_SPR")

# Single changes of meaning that the tests must notice, one after the other: WORDS="fsync looks" for some of them.
mutants: $(VENV)/.ready
	$(BIN)/python -m tests.mutants $(WORDS)

# On a machine with a GPU: figures into gpu/ (steps 80 s on an H200, three short chains of at most 330 s together), then the
# tests that need one: less than nine minutes. Without one: exit code 2.
gpu: $(VENV)/.ready
	$(BIN)/python -m tests.benchmarks.gpu --out gpu
	$(BIN)/python -m pytest -m gpu

format: $(VENV)/.ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

MODULES = $(shell find certvae analysis -name '*.py' ! -name '__main__.py' | sed 's|/__init__.py$$||; s|\.py$$||; s|/|.|g' | sort)
docs: $(VENV)/.ready
	PYTHONWARNINGS=ignore $(BIN)/pdoc --docformat google --output-directory docs $(MODULES)

rooms: $(VENV)/.ready
	$(BIN)/python -m tests.rooms

readme: $(VENV)/.ready
	$(BIN)/python -m tests.demo_table

# The environment is the lock, hash for hash; the project itself comes last and brings nothing with it.
$(VENV)/.ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

lock:
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --only-binary :all: --no-header \
		--all-extras pyproject.toml -o requirements.lock

clean:
	rm -rf $(VENV) docs
