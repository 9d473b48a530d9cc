#!/bin/sh
# Runs every fuzz target for $FUZZ_SECONDS, each with its figures; fails if one finds anything. Needs cargo-fuzz and a
# nightly toolchain. $FUZZ_TARGETS names some of them.
set -eu
cd "$(dirname "$0")"
cargo fuzz --version > /dev/null 2>&1 || cargo install --locked cargo-fuzz@0.13.2
cargo +nightly fuzz build --fuzz-dir .
failed=0
for target in ${FUZZ_TARGETS:-walk checkpoint reference sources config auth_file challenge link template map request drive plan}; do
    mkdir -p "corpus/$target" "artifacts/$target"
    log="artifacts/$target/log"
    status=0
    "target/x86_64-unknown-linux-gnu/release/$target" "corpus/$target" "seeds/$target" \
        -max_total_time="${FUZZ_SECONDS:-60}" -max_len=16384 -timeout=10 -rss_limit_mb=2048 \
        -artifact_prefix="artifacts/$target/" -print_final_stats=1 > "$log" 2>&1 || status=$?
    rate=$(awk '/^stat::average_exec_per_sec/ { print $2 }' "$log")
    count=$(awk '/^stat::number_of_executed_units/ { print $2 }' "$log")
    if [ "$status" -eq 0 ]; then
        echo "$target: $count executions, $rate a second, nothing found"
    else
        failed=1
        echo "$target: found something, see tests/fuzz/$log"
        grep -E "panicked|ERROR|SUMMARY" "$log" | head -5
    fi
done
exit "$failed"
