#!/bin/sh
# `make test-fresh`: the two commands of the README in a Debian 12 that has nothing but its essential packages, a C
# compiler, make, git and this machine's Rust toolchain: as root in a chroot, without CAP_SYS_ADMIN, as in a container.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
fresh=$here/target/fresh
root=$fresh/root
[ "$(id -u)" -eq 0 ] || { echo "fresh.sh: a chroot is made by root" >&2; exit 1; }
mkdir -p "$fresh"

# The Debian that this machine gets its packages from.
uri=$(apt-get indextargets --format '$(REPO_URI)' | grep -m 1 '/debian/$')
if [ ! -e "$fresh/minbase.tar" ]; then
    mmdebstrap --quiet --variant=minbase --include=ca-certificates,gcc,git,libc6-dev,make \
        bookworm "$fresh/minbase.tar.new" "deb $uri bookworm main" --format=tar
    mv "$fresh/minbase.tar.new" "$fresh/minbase.tar"
fi
rm -rf --one-file-system "$root"
mkdir -p "$root"
tar -xf "$fresh/minbase.tar" -C "$root" --exclude=./dev
mkdir -p "$root/dev" "$root/rust" "$root/root/.cargo/registry"
cp /etc/resolv.conf /etc/hosts "$root/etc/"
# How this machine reaches package registries.
for name in apt.conf.d/*proxy* apt.conf; do
    for file in /etc/apt/$name; do [ ! -e "$file" ] || cp --parents "$file" "$root"; done
done
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
# /proc and /dev are there in any chroot that is used; to make them a mount namespace of its own is taken.
unshare --mount sh -eu -c '
    mount -t proc proc "$1/proc"
    mount --rbind /dev "$1/dev"
    exec setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin chroot "$1" /usr/bin/env -i HOME=/root USER=root \
        LANG=C.UTF-8 PATH=/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        sh -eu -c "cd /ace-dt && . /commands"
' fresh "$root"
echo "in a fresh Debian: both commands of the README, in $(($(date +%s) - begun)) s"
rm -rf --one-file-system "$root"
