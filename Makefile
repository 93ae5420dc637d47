# The commands of the house. Everything runs from .venv, which scripts/setup makes and renews when a lock file changes.
PY := .venv/bin/python

.PHONY: setup check format test cluster fuzz e2e peers browser pictures soak bench bench-peers simulate clean

setup:
	@scripts/setup dev

check: setup
	$(PY) -m ruff format --check src tests scripts/structure scripts/recording
	$(PY) -m ruff check src tests scripts/structure scripts/recording
	$(PY) -m mypy
	.venv/bin/lint-imports

format: setup
	$(PY) -m ruff format src tests
	$(PY) -m ruff check --fix src tests

test: setup
	@scripts/system-packages docker-registry chromium tmux skopeo
	@! command -v npm >/dev/null || $(MAKE) -s build/axe/axe.min.js || echo "axe-core is not here: its tests are skipped" >&2
	$(PY) -m pytest -m "not peers and not soak and not bench and not fuzz and not cluster"

# Searches for broken promises, minutes long; under a limit of memory, since what they try may take all of it.
fuzz: setup
	ulimit -v 12000000 2>/dev/null; $(PY) -m pytest -m fuzz --timeout 1800

# Many virtual nodes of a Ray cluster on this machine: their deaths, and what the way to them costs.
cluster: setup
	$(PY) -m pytest tests/cluster --timeout 600 -s

e2e: setup
	@scripts/system-packages docker-registry nodejs npm skopeo
	@scripts/peers-setup
	$(PY) -m pytest -m "e2e or peers"

# Other projects' programs; writes docs/compatibility.md's table.
peers: setup
	@scripts/system-packages nodejs npm
	@scripts/system-packages default-jdk-headless || echo "no JDK could be installed: its client is skipped" >&2
	@scripts/peers-setup
	@scripts/agents-setup
	@rm -f build/agents/found.json
	$(PY) -m pytest -m peers
	$(PY) -m tests.e2e.agents.table

browser: setup build/axe/axe.min.js
	@scripts/system-packages chromium
	$(PY) -m pytest -m browser

pictures: setup
	@scripts/system-packages chromium fonts-inter
	CORRAL_PICTURES=1 $(PY) -m pytest tests/browser/test_pictures.py
	$(PY) scripts/recording docs/pictures/terminal.svg

build/axe/axe.min.js:
	@scripts/system-packages nodejs npm
	scripts/page-libraries axe-core@4.14.1 \
	  sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ== build/axe axe.min.js

soak: setup
	$(PY) -m pytest -m soak --timeout 3600 -s

bench: setup
	$(PY) -m pytest -m bench -s

# Other engines on the same files, in turns; writes docs/performance.md's table and plot. With nothing else beside it.
bench-peers: setup
	@scripts/bench-setup
	$(PY) -m tests.bench.llama_server || echo "no llama-server could be built: it does not take part" >&2
	$(PY) -m tests.bench.peers

# Clusters of up to a thousand nodes in numbers only, minutes long; writes docs/cluster-plan.md's table and plot.
simulate: setup
	@scripts/bench-setup
	$(PY) -m tests.sim.plan

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache
