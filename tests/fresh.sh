#!/bin/sh
# `make test-fresh`: the two commands of the README in a Debian 12 that has nothing but its essential packages, a C
# compiler, make, git and this machine's Rust toolchain: as root in a chroot, without CAP_SYS_ADMIN, as in a container.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
fresh=$here/target/fresh
root=$fresh/root
[ "$(id -u)" -eq 0 ] || { echo "fresh.sh: a chroot is made by root" >&2; exit 1; }
. "$here/tests/chroot.sh"

lay_down "$root" ca-certificates,gcc,git,libc6-dev,make
mkdir -p "$root/rust" "$root/root/.cargo/registry"
[ ! -e "$HOME/.cargo/config.toml" ] || cp "$HOME/.cargo/config.toml" "$root/root/.cargo/"
for kind in index cache; do
    [ ! -e "$HOME/.cargo/registry/$kind" ] || cp -r "$HOME/.cargo/registry/$kind" "$root/root/.cargo/registry/"
done
toolchain=$(rustc --print sysroot)
(cd "$toolchain" && tar -cf - --exclude=share --exclude='*musl*' bin lib libexec 2> /dev/null) | tar -C "$root/rust" -xf -
git clone -q "$here" "$root/ace-dt"

# The commands as the README has them: the first, and the one that passes the tests.
sed -n '/^```sh$/,/^```$/{/^```/!p}' "$here/README.md" | sed -n '1p; /^make test$/p' > "$root/commands"
[ "$(wc -l < "$root/commands")" -eq 2 ]
cat "$root/commands"
begun=$(date +%s)
run_in "$root" "cd /ace-dt && . /commands"
echo "in a fresh Debian: both commands of the README, in $(($(date +%s) - begun)) s"
rm -rf --one-file-system "$root"
