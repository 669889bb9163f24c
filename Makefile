# The commands of this repository. Each does all its own set-up, says what it does, can be run
# again and again, and leaves nothing running when it ends.

# The chaos makes networks and small disks of its own, in namespaces that go with it; so do Docker
# Engines, whose tests are in modules called `docker`.
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo --preserve-env=CI,CHAOS_SECS,CHAOS_SEED,CHAOS_HOSTS,CHAOS_JOBS_PER_SEC,CHAOS_ON)

.PHONY: help demo demo-cluster demo-stacks test chaos lint bench contracts setup-demo setup-demo-cluster setup-demo-stacks setup-test setup-bench setup-ansible

CARGO ?= cargo
# Many tests wait for servers, and for time to pass, more than they work.
TEST_THREADS ?= $(shell n=$$(nproc); echo $$((n > 4 ? n : 4)))
DENY_VERSION := 0.20.2

help:
	@echo "make demo          toggles and purges from the HTTP request to nginx and back, on loopback"
	@echo "make demo-cluster  two controllers on one PostgreSQL: one is killed, its hosts move, work goes on"
	@echo "make demo-stacks   200 stacks from git on three Docker Engines: push, plan, remove, break, unplug (needs root)"
	@echo "make test          every test, against real nginx, PHP-FPM, Redis, PostgreSQL and Docker"
	@echo "make chaos         real processes killed, cut off and starved while jobs run: CHAOS_SECS, CHAOS_SEED"
	@echo "make lint          formatting, clippy (warnings are errors), bans, licences, sources, playbooks"
	@echo "make bench         speed and memory, with the alternatives measured in the same run (needs root)"
	@echo "make contracts     rewrite contracts/ from the code, to be looked at and committed"

setup-demo setup-demo-cluster setup-demo-stacks setup-test setup-bench: setup-%:
	@tests/setup/debian.sh $*
	@$(if $(filter demo-stacks test bench,$*),tests/setup/docker.sh,:)
	@$(if $(filter test,$*),tests/setup/s3.sh,:)

setup-ansible: setup-test
	@tests/setup/ansible.sh

demo: setup-demo
	@echo "demo: building (the first build takes some minutes)"
	$(CARGO) build --quiet --bin hostler-controller --bin hostler --bin hostler-agent --bin demo
	@target/debug/demo

demo-cluster: setup-demo-cluster
	@echo "demo-cluster: building (the first build takes some minutes)"
	$(CARGO) build --quiet --bin hostler-controller --bin hostler --bin hostler-agent --bin demo-cluster
	@target/debug/demo-cluster

demo-stacks: setup-demo-stacks
	@echo "demo-stacks: building (the first build takes some minutes)"
	$(CARGO) build --quiet --bin hostler-controller --bin hostler --bin hostler-agent --bin demo-stacks
	@$(AS_ROOT) target/debug/demo-stacks

test: setup-ansible
	@echo "test: building and running every test"
	$(CARGO) build --quiet --workspace --bins
	$(CARGO) test --workspace -- --test-threads $(TEST_THREADS) $(if $(AS_ROOT),--skip docker::)
	$(if $(AS_ROOT),$(CARGO) --config "target.'cfg(all())'.runner = 'sudo --preserve-env'" test --workspace -- docker::)
	@tests/schemathesis.sh
	@echo "test: two minutes of chaos"
	@$(AS_ROOT) target/debug/chaos

chaos: setup-test
	@echo "chaos: building (the first build takes some minutes)"
	$(CARGO) build --quiet --workspace --bins
	@$(AS_ROOT) target/debug/chaos

lint: setup-ansible
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	@command -v cargo-deny >/dev/null || $(CARGO) install --quiet --locked --debug cargo-deny@$(DENY_VERSION)
	$(CARGO) deny --log-level error check bans licenses sources
	@cd ansible && PATH="$(CURDIR)/target/ansible/bin:$$PATH" NO_COLOR=1 ansible-lint --offline -q

bench: setup-bench
	@echo "bench: building with optimisation (some minutes)"
	$(CARGO) build --quiet --release --workspace --bin hostler --bin hostler-controller --bin hostler-agent --bin bench
	@$(AS_ROOT) target/release/bench

contracts:
	UPDATE_CONTRACTS=1 $(CARGO) test --workspace contract
