# `make` lists the targets. `make demo` and `make test` do all the set-up themselves.

.DEFAULT_GOAL := help
.PHONY: help setup setup-producers setup-peers setup-bench setup-faults setup-observability demo dev build test model simulation otlp faults \
	observability metrics-cost picture bench performance bench-full bench-growth fmt lint

# Debian keeps database servers in sbin, which is not on the PATH of most users.
export PATH := $(PATH):/usr/sbin:/usr/local/sbin

CARGO := cargo
# One after the other: built together, the program would have the features of the bench.
BUILD_BENCH := $(CARGO) build --locked --release --package lockkeeper-bench && $(CARGO) build --locked --release --package lockkeeper
BENCH := $(BUILD_BENCH) && target/release/lockkeeper bench
NODE_PRODUCER := examples/producers/node
PYTHON_PRODUCER := target/producers-venv
NODE_PEERS := tests/peers/node
NODE_BENCH := bench/peers/node
MYSQL = $(shell command -v mysqld)
PICTURE_PYTHON := target/picture-venv/bin/python

# Installs the packages in $$missing, or says what to install where there is no apt-get. RUNLEVEL=1 asks the packages
# not to start their services: lockkeeper starts servers of its own, and a service that runs all the same does no harm.
define install_missing
	[ -z "$$missing" ] && exit 0; \
	if ! command -v apt-get >/dev/null; then \
		echo "Please install, with this system's own packages, what Debian calls:$$missing" >&2; exit 1; \
	fi; \
	sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	echo "Installing with apt-get:$$missing"; \
	$$sudo apt-get update -qq || echo "apt-get update failed; trying with the package lists at hand" >&2; \
	$$sudo env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends $$missing
endef

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install Redis, a database server and a C linker when missing (Debian: apt-get; elsewhere: says what)
	@command -v $(CARGO) >/dev/null || { echo "cargo is missing: see https://rustup.rs" >&2; exit 1; }
	@missing=; \
	command -v redis-server >/dev/null || command -v valkey-server >/dev/null || missing="$$missing redis-server"; \
	command -v mariadbd >/dev/null || command -v mysqld >/dev/null || missing="$$missing mariadb-server"; \
	command -v cc >/dev/null || missing="$$missing gcc libc6-dev"; \
	$(install_missing)

setup-producers: ## Install what the Node and Python producer examples need, for their tests
	@missing=; \
	command -v redis-cli >/dev/null || missing="$$missing redis-tools"; \
	command -v npm >/dev/null || missing="$$missing nodejs npm"; \
	python3 -c 'import ensurepip, venv' 2>/dev/null || missing="$$missing python3-venv"; \
	$(install_missing)
	@if [ ! -e $(NODE_PRODUCER)/package.json ] || [ -d $(NODE_PRODUCER)/node_modules/ioredis ]; then exit 0; fi; \
	cd $(NODE_PRODUCER) && npm ci --no-audit --no-fund
	@if $(PYTHON_PRODUCER)/bin/python -c 'import redis' 2>/dev/null; then exit 0; fi; \
	python3 -m venv --clear $(PYTHON_PRODUCER) && \
	$(PYTHON_PRODUCER)/bin/pip install --quiet --disable-pip-version-check -r examples/producers/python/requirements.txt

setup-peers: ## Install the lock clients in Node that ours is tested against
	@missing=; \
	command -v npm >/dev/null || missing="$$missing nodejs npm"; \
	$(install_missing)
	@if [ -d $(NODE_PEERS)/node_modules/redlock ]; then exit 0; fi; \
	cd $(NODE_PEERS) && npm ci --no-audit --no-fund

demo: setup ## Watch thousands of orders flow, then a verdict (ARGS=--chaos for a harder one)
	$(CARGO) run --locked --release -- demo $(ARGS)

dev: setup ## Run throwaway servers and a daemon until Ctrl-C (ARGS="--keep DIR" keeps the data)
	$(CARGO) run --locked -- dev $(ARGS)

build: ## Build the release binary
	$(CARGO) build --locked --release

test: setup setup-producers setup-peers ## Run all tests, on servers of their own (ARGS=NAME runs some)
	$(CARGO) test --locked --workspace $(ARGS)

model: ## Search the protocol of a fleet for an order that is not kept, every interleaving (some minutes)
	$(CARGO) run --locked --release --package lockkeeper-model

simulation: ## Run a million fleets of the real plan and ownership on simulated servers, by seeds (ARGS="1000 42": how many, from which)
	$(CARGO) run --locked --release --package lockkeeper-simulation -- $(ARGS)

otlp: setup ## Check and test the export of spans, a cargo feature
	$(CARGO) clippy --locked --features otlp --lib --test otlp -- -D warnings
	$(CARGO) test --locked --features otlp --test otlp $(ARGS)

setup-faults:
	@missing=; \
	ls /usr/lib/*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1 || missing="$$missing libfaketime"; \
	$(install_missing)

faults: setup setup-faults ## Break everything under load, and prove the invariants (LOCKKEEPER_FAULTS_ONLY=1,5 runs some)
	LOCKKEEPER_FAULTS=all $(CARGO) test --locked --test faults

setup-bench:
	@missing=; \
	command -v npm >/dev/null || missing="$$missing nodejs npm"; \
	command -v taskset >/dev/null || missing="$$missing util-linux"; \
	$(install_missing)
	@if [ -d $(NODE_BENCH)/node_modules/bullmq ]; then exit 0; fi; \
	cd $(NODE_BENCH) && npm ci --no-audit --no-fund

bench: setup setup-bench ## Measure beside peers, 25 minutes (QUICK=1: a few; SCENARIO=locks: one; ARGS=--json)
	$(BENCH) $(or $(SCENARIO),all) $(if $(QUICK),--quick) $(ARGS)

performance: setup setup-bench ## Measure as `bench` does, and write the figures, charts and tables of docs/performance.md
	@mkdir -p docs/performance
	-$(BENCH) all --json $(if $(QUICK),--quick) $(ARGS) >docs/performance/results.json
	python3 bench/charts.py docs/performance/results.json docs/performance >docs/performance/tables.md

bench-full: setup setup-bench ## The same, then unpinned, then on MySQL (MYSQL=PATH/mysqld), over an hour
	@[ -n "$(MYSQL)" ] && $(MYSQL) --version | grep -vi mariadb >/dev/null || \
		{ echo "there is no MySQL server: name its mysqld with MYSQL=PATH" >&2; exit 1; }
	@$(BUILD_BENCH)
	@failed=; bench="target/release/lockkeeper bench"; \
	$$bench all $(ARGS) || failed=1; \
	$$bench all --unpinned $(ARGS) || failed=1; \
	LOCKKEEPER_MYSQLD=$(MYSQL) $$bench all $(ARGS) || failed=1; \
	[ -z "$$failed" ]

bench-growth: setup ## Measure with 10 million events, more daemons, a million entries; under an hour (QUICK=1: a few minutes)
	$(BENCH) growth $(if $(QUICK),--quick) $(ARGS)

setup-observability: ## Install Prometheus, with promtool, for the tests of metrics, dashboard and alerts
	@missing=; \
	command -v prometheus >/dev/null && command -v promtool >/dev/null || missing="$$missing prometheus"; \
	command -v python3 >/dev/null || missing="$$missing python3"; \
	$(install_missing)

observability: setup setup-observability ## Prove metrics, dashboard, alerts and runbook against a live fleet and Prometheus
	python3 grafana/overview.py --check
	$(CARGO) test --locked --test observability

metrics-cost: setup ## Measure what metrics cost, in a release build (some minutes)
	$(CARGO) test --locked --release --test metrics-cost

picture: setup setup-observability ## Draw docs/dashboard.png from the live data of `make observability`
	@[ -x $(PICTURE_PYTHON) ] || python3 -m venv $(dir $(PICTURE_PYTHON))..
	@$(PICTURE_PYTHON) -c 'import matplotlib' 2>/dev/null || $(PICTURE_PYTHON) -m pip install --quiet --disable-pip-version-check matplotlib
	LOCKKEEPER_PICTURE=docs/dashboard.png LOCKKEEPER_PICTURE_PYTHON=$(CURDIR)/$(PICTURE_PYTHON) \
		$(CARGO) test --locked --test observability

fmt: ## Format the code
	$(CARGO) fmt --all

lint: ## Check format, clippy and documentation, warnings denied
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets --test observability --test metrics-cost -- -D warnings
	$(CARGO) clippy --locked --package lockkeeper -- -D warnings
	RUSTDOCFLAGS=-Dwarnings $(CARGO) doc --locked --no-deps --features testing --document-private-items
