# A fresh machine needs Python 3.11+, a C compiler and make; all else is installed into .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-all test-arm test-avx512 fuzz wheels lint bench clean

demo: .venv/ready
	$(BIN)/pellucid demo demo

test: .venv/ready
	$(BIN)/pytest -n 2 tests

# The slow ones too: the kernels of other processors, by cross compilers under emulation. Each names
# what it needs.
test-all: .venv/ready
	$(BIN)/pytest -n 2 -m "slow or not slow" tests

# Two steps of a run made here, audited by ARM code under emulation. Fetches an arm64 userland once,
# about 850 MB.
test-arm: .venv/ready
	tests/arm/audit.sh

# Every operation's golden digest on an emulated CPU with AVX-512.
test-avx512:
	tests/avx512/golden.sh

# Hostile releases for an hour: nothing but errors of ours may come of them.
fuzz: .venv/ready
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements/fuzz.txt
	$(BIN)/python fuzz/run.py --minutes 60

# Wheels with compiled kernels, in dist/: of this machine, and of 64-bit ARM by
# gcc-aarch64-linux-gnu.
wheels: .venv/ready
	$(BIN)/python setup.py -q bdist_wheel
	CC=aarch64-linux-gnu-gcc LDSHARED="aarch64-linux-gnu-gcc -shared" $(BIN)/python setup.py -q \
	    build --build-base build/aarch64 bdist_wheel --plat-name linux_aarch64

C_SOURCES = $(wildcard $(addsuffix /*.[ch],pellucid/kernels/src tests/kernels tests/avx512 bench))

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $(C_SOURCES)
	$(BIN)/pyright

bench: demo/manifest.jsonl
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r requirements/bench.txt
	$(BIN)/python bench/train.py
	$(BIN)/python bench/kernels.py
	$(BIN)/python bench/errors.py
	$(BIN)/python bench/recording.py
	$(BIN)/python bench/audit.py
	$(BIN)/python bench/plan.py --release demo
	$(BIN)/python bench/data.py
	$(BIN)/python bench/dna.py
	$(BIN)/python bench/effect.py
	$(BIN)/python bench/intervals.py
	$(BIN)/python bench/memorization.py
	$(BIN)/python bench/ledger.py
	$(BIN)/python bench/logits.py demo
	$(BIN)/python bench/verify.py demo
	$(BIN)/python bench/flips.py demo
	$(BIN)/python bench/proofs.py demo
	$(BIN)/python bench/forgeries.py
	$(BIN)/python bench/kills.py
	$(BIN)/python bench/trace.py demo
	$(BIN)/python bench/substrings.py demo
	$(BIN)/python bench/site.py demo

demo/manifest.jsonl: .venv/ready
	$(BIN)/pellucid demo demo

# torch first and alone: the pinned release satisfies everybody else, so that no other build is
# fetched.
.venv/ready: $(wildcard requirements/*.txt pellucid/kernels/src/*) pyproject.toml setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "pellucid needs Python 3.11 or newer: make PYTHON=python3.11 …" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check "$$(grep '^torch==' requirements/lock.txt)"
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements/lock.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r requirements/schemas.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch .venv/ready

clean:
	rm -rf .venv demo build dist *.egg-info pellucid/kernels/*.so pellucid/kernels/*.log
