#!/bin/sh
# The program on a tape drive in a virtual machine: `make test-tape`, `make test-position`. Takes the static
# binary, and which drive (see machine.sh).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
drive=${2:-tgt}
work=$here/../../target/tape/work-$drive
case $drive in
    # The plug is pulled in the second, and the third goes on.
    tgt) scripts="suite.sh cartridges.sh deliver.sh plug.sh plug.sh" ends=4 ;;
    *) scripts=position.sh ends=1 ;;
esac
"$here/machine.sh" build "$1" "$drive"
rm -rf "$work"
mkdir -p "$work"
sed -n '/^```bash$/,/^```$/{/^```/!p}' "$here/../../README.md" > "$work/readme.sh"
cp "$here/guest.sh" "$here/suite.sh" "$here/cartridges.sh" "$here/deliver.sh" "$here/plug.sh" "$here/position.sh" "$work/"
for script in $scripts; do
    "$here/machine.sh" boot "$work" "$script" 1500 "$drive" < /dev/null || true
done > "$work/console" 2>&1
tr -d '\r' < "$work/console" > "$work/log"
grep -E '^(ok|FAILED)' -A 5 "$work/log" | grep -v '^--' || true
passed=$(grep -c '^ok ' "$work/log" || true)
failed=$(grep -c '^FAILED ' "$work/log" || true)
echo "on a tape: $passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$(grep -c '^end$' "$work/log")" -eq "$ends" ]
