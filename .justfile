# `just` alone lists what there is. `just check` before every commit, `just prepush` before every push.

set shell := ["bash", "-euo", "pipefail", "-c"]

[private]
default:
    @just --list --unsorted

# Format, lints, borders, unit tests, page: everything that needs no libvirt of its own
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings
    cargo deny check bans licenses sources
    cargo nextest run --workspace --locked
    if [ -d ui/node_modules ]; then cd ui && npm run --silent check && npm run --silent test; else echo "SKIP page: run npm ci in ui/ first"; fi

# The fast tests only
test *FILTER:
    cargo nextest run --workspace --locked {{ FILTER }}

# Storms over simulated cells, as the variables ARCHIPEL_SEED, ARCHIPEL_STORM and ARCHIPEL_STORMS say
storm *ARGS:
    cargo test --locked -p archipel-tests --test storm -- --nocapture {{ ARGS }}

# The suite on real parts: libvirt, QEMU, XMPP clients; `just real bad_input` runs one topic
real *TOPIC:
    cargo build --locked -p archipeld -p archipel-xmpp
    tests/real/run {{ TOPIC }}

# What continuous integration runs
prepush:
    ./ops/test

# The table of ours beside the bare call, and a storm over three joined hosts (`just bench --storm`: that alone)
bench *ARGS:
    cargo build --release --locked -p archipeld
    cargo run --release --locked -p archipel-tests --bin bench -- {{ ARGS }}

# Our moves beside those of `virsh migrate`, on the build that users run (needs root, as `just real` does)
bench-moves:
    cargo build --release --locked -p archipeld -p archipel-xmpp
    ARCHIPEL_BIN_DIR=${CARGO_TARGET_DIR:-$PWD/target}/release tests/real/run orchestration

# Build the page (commit what changes in ui/dist)
ui:
    cd ui && npm ci && npm run build

# Write everything that is generated from the commands again: catalog.json, ops/generated and the page's types
catalog:
    ARCHIPEL_UPDATE=1 cargo test --locked -p archipel-actors --test catalog
    ARCHIPEL_UPDATE=1 cargo test --locked -p archipel-tests --test borders generated
    if [ -d ui/node_modules ]; then cd ui && npm run --silent gen && npm run --silent build; else echo "the page: run npm ci in ui/, then just catalog again"; fi
