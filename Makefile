# Two commands for a newcomer: `make demo` and `make test`. Both need only Python >= 3.11.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STORE ?= certvae-store

.PHONY: demo test format lock clean

demo: $(VENV)/.ready
	$(BIN)/python sweeps/tiny_fixed_q.py --data digits --store $(STORE)

test: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python -m pytest

format: $(VENV)/.ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

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
	rm -rf $(VENV)
