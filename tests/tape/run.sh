#!/bin/sh
# The program on a tape drive in a virtual machine: `make test-tape`. Takes the static binary.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$here/../../target/tape/work
"$here/machine.sh" build "$1"
rm -rf "$work"
mkdir -p "$work"
sed -n '/^```bash$/,/^```$/{/^```/!p}' "$here/../../README.md" > "$work/readme.sh"
cp "$here/guest.sh" "$here/suite.sh" "$here/plug.sh" "$work/"
for script in suite.sh plug.sh plug.sh; do
    "$here/machine.sh" boot "$work" "$script" 1500 < /dev/null || true
done > "$work/console" 2>&1
tr -d '\r' < "$work/console" > "$work/log"
grep -E '^(ok|FAILED)' -A 5 "$work/log" | grep -v '^--' || true
passed=$(grep -c '^ok ' "$work/log" || true)
failed=$(grep -c '^FAILED ' "$work/log" || true)
echo "on a tape: $passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$(grep -c '^end$' "$work/log")" -eq 2 ]
