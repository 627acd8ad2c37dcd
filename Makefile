# Everything a newcomer needs: `make demo`, `make test`. Both install what is missing first.
TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)

.PHONY: help demo test interop build release lint doc bench bench-peers clean bootstrap

help:
	@echo "make demo     two real nodes open a channel, pay through it and close it"
	@echo "make test     formatting, lints, every test and the doc tests"
	@echo "make interop  Leyden and LDK's node as peers, every case in a table"
	@echo "make release  optimised leydend and leyden in $(TARGET)/release"
	@echo "make bench    micro-benchmarks and the payment, routing and mining benchmarks"
	@echo "make bench-peers WHAT=route|payments    the same work done by Leyden and by LDK, side by side"

bootstrap:
	@.ci/bootstrap

build: bootstrap
	cargo build --workspace

demo: bootstrap
	cargo build --workspace --bins
	$(TARGET)/debug/leyden demo

test: bootstrap
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo test --workspace --locked --lib --bins --tests -- --show-output
	cargo test --workspace --locked --doc

interop: bootstrap
	cargo build --workspace --locked --bins --test interop
	cargo test --workspace --locked --test interop

release: bootstrap
	cargo build --release --locked --bin leydend --bin leyden

bench: release
	cargo bench --workspace --exclude leyden-interop
	$(TARGET)/release/leyden bench mine --seconds 5
	$(TARGET)/release/leyden bench route
	$(TARGET)/release/leyden bench payments --nodes 2 --count 10000 --concurrency 100

# The work that Leyden and a peer do both, in one run; its last line is `ratio: N`.
WHAT ?= route
bench-peers: bootstrap
	cargo build --release --workspace --locked --bins --bench peers_$(WHAT)
	cargo bench --workspace --locked --bench peers_$(WHAT)

clean:
	cargo clean
