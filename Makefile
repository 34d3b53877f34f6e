# Everything that is run at the desk and in CI. A fresh clone needs Python 3.11 or
# newer, make, and nothing else; `interop` and `bench` want root and Debian's packages.
PYTHON ?= python3

SEEDS ?= 1000

.PHONY: demo test check fuzz simulate interop bench bench-quick clean

demo: .venv/runs
	.venv/bin/fwdmta demo $(ARGS)

test: .venv/develops
	.ci/test

check: .venv/develops
	.ci/check

# hostile input, guided by coverage and by grammar; FUZZ_SECONDS for all
FUZZ_SECONDS ?= 300
fuzz: .venv/fuzzes
	.venv/bin/python -m fuzz.run --seconds $(FUZZ_SECONDS) $(ARGS)

simulate: .venv/runs
	.venv/bin/python -m fwd_mta.simulation.many --seeds $(SEEDS) $(ARGS)

interop: .venv/runs
	.venv/bin/python -m interop.run $(ARGS)

# side by side with Postfix: ten minutes, one minute (docs/performance.md)
bench: .venv/runs
	.venv/bin/python -m benchmarks.run $(ARGS)

bench-quick: .venv/runs
	.venv/bin/python -m benchmarks.run --set quick $(ARGS)

clean:
	rm -rf .venv build dist *.egg-info _trial_temp*

.venv/runs: setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.version_info < (3, 11) and sys.exit("fwd_mta needs Python 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	.venv/bin/pip install -qq -e .
	touch $@

.venv/fuzzes: .venv/develops
	.venv/bin/pip install -qq -e '.[fuzz]' || echo "no atheris for this Python: Hypothesis alone"
	touch $@

.venv/develops: .venv/runs
	.venv/bin/pip install -qq -e '.[dev]'
	touch $@
