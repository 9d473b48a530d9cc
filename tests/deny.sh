#!/bin/sh
# `make deny`: what deny.toml says of dependencies. Its advisories are fetched; where they cannot be, the rest
# is checked all the same.
set -eu
if ! command -v cargo-deny >/dev/null 2>&1; then
    echo "cargo-deny is not installed (cargo install --locked cargo-deny): dependencies were not checked" >&2
    exit 0
fi
cargo deny --locked check licenses bans sources
if cargo deny --locked fetch db >/dev/null 2>&1; then
    cargo deny --locked check advisories
else
    echo "the advisories cannot be fetched here: they were not checked" >&2
fi
