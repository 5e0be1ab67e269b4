# What people and CI run. Every target works on a machine with Rust, make and a C compiler.

.PHONY: run test tools peers lint fmt bench bench-peers bench-flights bench-redis bench-many \
	bench-keys bench-entries bench-micro valgrind bench-check bench-record conformance soak deny

# The demo: a simulated model API with the cache in front. No key, no network.
run:
	cargo run --release --package cache-server -- demo

# All targets at once: the black-box tests run the binaries that this builds.
test: tools
	cargo build --workspace --all-targets --locked
	cargo test --workspace --locked

# Installs what is missing, in Debian's words: a shell text that adds packages to `missing`.
# Debian installs servers as services that start at once, on port 80 too; while policy-rc.d says 101,
# none does.
define install
	@PATH="$$PATH:/usr/sbin:/usr/local/sbin"; missing=; \
	$(1) \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
		echo "This needs programs that are missing here. Debian has them in:$$missing" >&2; \
		echo "Install them, or run \`make $@\` as root on Debian." >&2; \
		exit 1; \
	fi; \
	policy=/usr/sbin/policy-rc.d; \
	if [ ! -e $$policy ]; then \
		trap "rm -f $$policy" EXIT; trap "exit 1" INT TERM; \
		printf '#!/bin/sh\nexit 101\n' >$$policy && chmod 0755 $$policy; \
	fi; \
	apt-get update -q && \
	DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$missing
endef

# The programs that the tests start: nginx and Varnish, as caches in front, and Redis, as a tier behind.
NGINX = command -v nginx >/dev/null || missing="$$missing nginx-light";
VARNISH = command -v varnishd >/dev/null || missing="$$missing varnish";
REDIS = command -v redis-server >/dev/null || missing="$$missing redis-server";
# The module by which Varnish has bodies in its keys.
VARNISH_BODIES = [ -n "$$(find /usr/lib /usr/local/lib -name libvmod_bodyaccess.so 2>/dev/null)" ] || \
	missing="$$missing varnish-modules";

tools:
	$(call install,$(NGINX) $(VARNISH) $(REDIS))

# The peers that `make bench-peers` measures beside us.
peers:
	$(call install,$(NGINX) $(VARNISH) $(VARNISH_BODIES))

# What `make bench-check` counts instructions with.
valgrind:
	$(call install,command -v valgrind >/dev/null || missing="$$missing valgrind";)

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --document-private-items

fmt:
	cargo fmt --all

# The binaries that are measured, built together: alone they would be built anew, with other
# features of what they share.
RELEASE := $(or $(CARGO_TARGET_DIR),target)/release

.PHONY: release
release:
	cargo build --release --locked --package cache-server --package cache-server-benches

# Ratios side by side in one run; prints a table.
bench: release
	$(RELEASE)/side-by-side

# The cache beside a bare server, nginx and Varnish, all with the request's body in the key; prints
# tables, and keeps them and a chart. A quick look, which keeps nothing: peers --quick
bench-peers: release peers
	$(RELEASE)/peers --json docs/performance.json --svg docs/performance.svg

# Storms, streams and expiry, beside the upstream itself, and nginx and Varnish where they are
# installed; prints a table.
bench-flights: release
	$(RELEASE)/flights

# A read of Redis beside redis-benchmark, what callers notice when Redis stops, and what a second
# server is spared; prints a table. Needs redis-server and redis-benchmark. What entries take there:
# redis --only memory
bench-redis: release
	$(RELEASE)/redis

# Several servers on one Redis: a storm on a cold key, how soon a purge is everywhere, what callers
# notice of a rolling restart, and ways of balancing by nginx; prints tables. Needs redis-server and
# nginx.
bench-many: release
	$(RELEASE)/many

# What entries take in memory and on disk, a restart with a million of them, and how well the bound on
# memory holds while they come and go; prints tables. Whole it takes half an hour and 6 GiB of disk.
bench-entries: release
	$(RELEASE)/entries

# What a key costs, side by side with hashing the body as it is; prints a table.
bench-keys:
	cargo bench --locked --package cache-server-benches --bench keys

# What each step of a hit costs, by itself. Some alone: make bench-micro ONLY='memory hit'
bench-micro:
	cargo bench --locked --package cache-server-benches --bench micro -- $(if $(ONLY),'$(ONLY)')

# Instructions that the server takes for a request, beside the recorded ones; prints a table, and fails
# if there are more. Steady on a busy machine. Needs valgrind.
bench-check: release valgrind
	$(RELEASE)/instructions

# Records them anew: after an improvement, or for another compiler.
bench-record: release valgrind
	$(RELEASE)/instructions --record

# The rules of HTTP for caches, one by one, and nginx and Varnish by the same rules where they are
# installed; prints a table. Fails if we break a MUST.
conformance: release
	$(RELEASE)/conformance

# Ten minutes of load of every kind with every answer checked. Others: make soak MINUTES=60
soak: release
	$(RELEASE)/soak --minutes $(or $(MINUTES),10)

# Licences, bans and sources of all dependencies. Installs cargo-deny where it is missing.
deny:
	command -v cargo-deny >/dev/null || cargo install cargo-deny --locked
	cargo deny check bans licenses sources
