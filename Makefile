# Every target makes what it needs: the environment .venv with exactly what the lock files name, and the project in it.

PYTHON := $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { command -v $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input
LOCKED := $(PIP) --require-hashes
EDITABLE := $(PIP) --no-deps --no-build-isolation --editable .
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev
CHARTS := $(VENV)/.charts
NOT_FAST := slow or clients or vllm or grpo or bench or deploy

.DEFAULT_GOAL := help
.PHONY: help demo demo-vllm docs dashboards chart pictures test check fast test-clients test-vllm test-grpo test-deploy bench bench-check bench-growth bench-steady bench-workers bench-micro bench-peers bench-way profile bench-state bench-routers bench-prefix bench-goodput bench-residency bench-rounds chaos figures lock format clean system-packages

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(RUNTIME) ## the gateway and three experts on this machine; Ctrl-C ends it
	$(BIN)/pointsman demo

demo-vllm: $(DEV) ## the same with two real LLMs on a real vLLM, on the CPU; the first time it installs 3.5 GB
	scripts/vllm-environment.sh
	$(BIN)/python scripts/demo_vllm.py

test: check $(CHARTS) system-packages ## everything that CI runs
	$(BIN)/pytest -m "not vllm and not grpo and not bench" --durations=15

check: $(DEV) ## format, lint, types, imports, house rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q tests/test_house.py

fast: $(DEV) ## the quick tests, in under three minutes
	$(BIN)/pytest -q -m "not ($(NOT_FAST))" --durations=5

test-clients: $(DEV) system-packages ## OpenAI's own test suite and real clients
	$(BIN)/pytest -m clients --durations=10 tests/clients

test-vllm: $(DEV) ## the gateway before a real vLLM, on the CPU; the first time it installs 3.5 GB
	scripts/vllm-environment.sh || test $$? -eq 3
	$(BIN)/pytest -m vllm -o timeout=600 --durations=10 tests/vllm

test-grpo: ## train a small real LLM as the policy of router_r1, on the CPU; the first time it installs 1.6 GB
	scripts/grpo-environment.sh
	.venv-grpo/bin/python -m pytest -m grpo -o timeout=1800 --durations=10 tests/grpo

test-deploy: $(CHARTS) ## dashboards, alerts, console, image, compose and chart, each by the tool that will read it
	scripts/system-packages.sh --deploy
	$(BIN)/pytest --durations=10 tests/deploy $(wildcard tests/charts)

bench: $(DEV) system-packages ## the gateway's speed in shares of the direct way and of nginx
	$(BIN)/python -m tests.benchmarks.bench $(BENCH)

docs: $(DEV) ## write docs/configuration.md from the configuration's models
	$(BIN)/python -m gateway.reference > docs/configuration.md

dashboards: $(DEV) ## write deploy/grafana/dashboards from the Python beside them
	$(BIN)/python -m deploy.grafana

chart: $(DEV) ## write what in helm/pointsman is made from other files
	$(BIN)/python scripts/chart.py

pictures: $(DEV) system-packages ## draw the dashboards in docs/assets, from a quarter of an hour with some trouble in it
	$(BIN)/python -m tests.deploy.pictures

bench-way: $(DEV) ## µs of a request in the gateway itself, by room, without the kernel
	$(BIN)/python -m tests.benchmarks.way
	$(BIN)/python -m tests.benchmarks.way --profile --rounds 5 --top 20

bench-peers: ## install the Rust routers and LiteLLM 1.80.0 beside us, for `make bench BENCH="--peers .cache/peers"`
	tests/benchmarks/peers.sh .cache/peers

profile: $(DEV) system-packages ## a flame graph of a gateway under load: .cache/profile/flame.svg
	scripts/profile-environment.sh
	$(BIN)/python -m tests.benchmarks.profile

bench-check: $(DEV) system-packages ## is a cached decision at least 0.12 of nginx, and a stream 0.4?
	$(BIN)/pytest -m bench -s tests/benchmarks

bench-state: $(DEV) system-packages ## decisions in µs, and what requests feel of a frozen Redis
	$(BIN)/python -m tests.benchmarks.decisions
	$(BIN)/python -m tests.benchmarks.frozen_redis

bench-routers: $(DEV) ## µs of a decision of each learned router, 20 models and 100,000 training rows
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.routers

bench-prefix: $(DEV) ## time to the first token in conversations: prefix affinity against round robin
	$(BIN)/python -m tests.benchmarks.prefix_affinity

bench-goodput: $(DEV) ## answers in time at 0.5 to 4 times what the backends can do, with admission and without
	$(BIN)/python -m tests.benchmarks.goodput

bench-residency: $(DEV) ## switches and waiting, 20 experts with memory for 4: our policy against LRU and pinning
	$(BIN)/python -m tests.benchmarks.residency

bench-rounds: $(DEV) ## train rl_rounds and cascade on recorded answers, and hold them to what one call can do
	$(BIN)/pytest -m bench -s tests/learning/test_rounds.py tests/learning/test_cascade.py

bench-growth: $(DEV) ## requests/s and p99 over connections, bodies, models, routes, keys and open streams; draws docs/growth
	$(BIN)/python -m tests.benchmarks.growth $(GROWTH)

bench-steady: $(DEV) ## 100,000 requests to one worker: do memory and gauges stand still, and how late is the event loop?
	$(BIN)/python -m tests.benchmarks.steady $(STEADY)

bench-workers: $(DEV) ## one worker against two, on two cores that load and servers share
	$(BIN)/python -m tests.benchmarks.workers

bench-micro: $(DEV) ## µs of the functions that each request calls, one by one
	$(BIN)/pytest -q -p benchmark --benchmark-disable-gc --benchmark-max-time=0.3 --benchmark-sort=name \
		--benchmark-columns=min,median,iqr,rounds tests/benchmarks/micro

chaos: $(DEV) system-packages ## three minutes of traffic while experts, Redis and a gateway break and mend
	$(BIN)/python -m tests.chaos $(CHAOS)

figures: $(DEV) ## train and judge every learned router on recorded outcomes; writes the tables of README.md
	$(BIN)/python scripts/figures.py

lock: ## resolve the lock files anew
	$(PYTHON) scripts/lock.py

format: $(DEV) ## format, and mend what the linter can
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

clean: ## remove environments and caches
	rm -rf .venv .venv-* .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

system-packages:
	scripts/system-packages.sh

# The bare environment alone comes first, so that a demo need not wait for the tools of the tests.
$(RUNTIME): pyproject.toml requirements/build.lock requirements/runtime.lock
	@test -n "$(PYTHON)" || { echo "Pointsman needs Python 3.11 or newer; none was found" >&2; exit 1; }
	@test -x $(BIN)/python || { echo "making $(VENV) with $(PYTHON)"; $(PYTHON) -m venv $(VENV); }
	$(LOCKED) -r requirements/build.lock -r requirements/runtime.lock
	$(EDITABLE)
	@touch $@

$(DEV): $(RUNTIME) requirements/dev.lock
	$(LOCKED) -r requirements/dev.lock
	@touch $@

$(CHARTS): $(DEV) requirements/charts.lock
	$(LOCKED) -r requirements/charts.lock
	@touch $@
