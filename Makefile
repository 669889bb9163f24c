# The commands of this repository. Each does all its own set-up, says what it does, can be run
# again and again, and leaves nothing running when it ends.

.PHONY: help demo test lint bench contracts setup-demo setup-test setup-bench setup-ansible

CARGO ?= cargo
DENY_VERSION := 0.20.2

help:
	@echo "make demo       toggles and purges from the HTTP request to nginx and back, on loopback"
	@echo "make test       every test, against real nginx, PHP-FPM, Redis and PostgreSQL"
	@echo "make lint       formatting, clippy (warnings are errors), bans, licences, sources, playbooks"
	@echo "make bench      speed and memory, with the alternatives measured in the same run"
	@echo "make contracts  rewrite contracts/ from the code, to be looked at and committed"

setup-demo setup-test setup-bench: setup-%:
	@tests/setup/debian.sh $*

setup-ansible: setup-test
	@tests/setup/ansible.sh

demo: setup-demo
	@echo "demo: building (the first build takes some minutes)"
	$(CARGO) build --quiet --bin hostler-controller --bin hostler --bin hostler-agent --bin demo
	@target/debug/demo

test: setup-ansible
	@echo "test: building and running every test"
	$(CARGO) build --quiet --workspace --bins
	$(CARGO) test --workspace
	@tests/schemathesis.sh

lint: setup-ansible
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	@command -v cargo-deny >/dev/null || $(CARGO) install --quiet --locked --debug cargo-deny@$(DENY_VERSION)
	$(CARGO) deny --log-level error check bans licenses sources
	@cd ansible && PATH="$(CURDIR)/target/ansible/bin:$$PATH" NO_COLOR=1 ansible-lint --offline -q

bench: setup-bench
	@echo "bench: building with optimisation (some minutes)"
	$(CARGO) build --quiet --release --workspace --bins
	@target/release/bench

contracts:
	UPDATE_CONTRACTS=1 $(CARGO) test --workspace contract
