# Everything a newcomer needs: `make demo`, `make test`. Both install what is missing first.
BUILT := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)

.PHONY: help demo test interop test-web fuzz build release lint doc bench bench-peers clean bootstrap bootstrap-tests

help:
	@echo "make demo     two real nodes open a channel, pay through it and close it"
	@echo "make test     formatting, lints, every test and the doc tests"
	@echo "make interop  LDK's node as the peer, and programs made for LND as clients, each case in a table"
	@echo "make test-web the page in a headless Chromium, from no wallet to a closed channel; pictures in $(BUILT)/web"
	@echo "make fuzz     libFuzzer on one target for a while: TARGET=wire_messages SECONDS=60 (tests/fuzz/README.md)"
	@echo "make release  optimised leydend and leyden in $(BUILT)/release"
	@echo "make bench    micro-benchmarks and the payment, routing and mining benchmarks"
	@echo "make bench-peers WHAT=route|payments    the same work done by Leyden and by LDK, side by side"
	@echo "make bench-peers WHAT=chain             the same by Leyden and by Bitcoin Core's engine"

bootstrap:
	@.ci/bootstrap

# What the peers of the tests need beside that: Bitcoin Core's engine is built with cmake and Boost.
bootstrap-tests:
	@.ci/bootstrap tests

build: bootstrap
	cargo build --workspace

demo: bootstrap
	@[ -e $(BUILT)/debug/leydend ] || echo "The first build compiles RocksDB and some 250 crates: 13 minutes on two cores."
	cargo build --workspace --bins
	$(BUILT)/debug/leyden demo

test: bootstrap-tests
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo test --workspace --locked --lib --bins --tests -- --show-output
	cargo test --workspace --locked --doc

interop: bootstrap
	@.ci/bootstrap clients
	cargo build --workspace --locked --bins --test interop --test clients
	cargo test --workspace --locked --test interop --test clients

test-web:
	@.ci/bootstrap
	@.ci/bootstrap web
	cargo build --workspace --locked --bins --test web
	cargo test --workspace --locked --test web

# New inputs go to tests/fuzz/grown, what breaks a promise to tests/fuzz/artifacts; the corpus is only read.
TARGET ?= wire_messages
SECONDS ?= 60
fuzz: bootstrap
	@command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
	mkdir -p tests/fuzz/grown/$(TARGET)
	CARGO_TARGET_DIR=$(abspath $(BUILT))/fuzz cargo fuzz run --fuzz-dir tests/fuzz --features libfuzzer \
		--sanitizer none --no-cfg-fuzzing $(TARGET) tests/fuzz/grown/$(TARGET) tests/fuzz/corpus/$(TARGET) -- \
		-max_total_time=$(SECONDS) -rss_limit_mb=2000 -timeout=20

# gcc takes the field multiplication of libsecp256k1 for too large to be inlined everywhere. With it inlined, as in the newer
# version that Bitcoin Core has, a signature is checked some 5 % faster. Other compilers know better or ignore it.
release bench bench-peers: export CFLAGS_x86_64_unknown_linux_gnu ?= \
	--param max-inline-insns-single=1000 --param inline-unit-growth=400

release: bootstrap
	cargo build --release --locked --bins -p leyden -p leyden-client

bench: release
	cargo bench --workspace --exclude leyden-interop --exclude leyden-kernel
	$(BUILT)/release/leyden bench mine --seconds 5
	$(BUILT)/release/leyden bench route
	$(BUILT)/release/leyden bench payments --nodes 2 --count 10000 --concurrency 100

# The work that Leyden and a peer do both, in one run; its last line is `ratio: N`.
WHAT ?= route
bench-peers: bootstrap-tests
	cargo build --release --workspace --locked --bins --bench peers_$(WHAT)
	cargo bench --workspace --locked --bench peers_$(WHAT)

clean:
	cargo clean
