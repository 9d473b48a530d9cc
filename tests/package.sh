#!/bin/sh
# `make test-package`: the Debian package in a Debian 12 that has little else: installed, its manual read, a command
# completed, purged without a trace. And the static binary in a chroot that is empty but for certificate authorities and
# names of hosts: it archives from a registry by name over HTTPS.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
root=$here/target/fresh/package
binary=$here/target/static/x86_64-unknown-linux-musl/release/ace-dt
[ "$(id -u)" -eq 0 ] || { echo "package.sh: a chroot is made by root" >&2; exit 1; }
. "$here/tests/chroot.sh"
lay_down "$root" ca-certificates,man-db,bash-completion
cp "$here"/target/dist/*.deb "$root/ace-dt.deb"

cat > "$root/check.sh" <<'END'
files() { find / -xdev -path /proc -prune -o -path /dev -prune -o -path /tmp -prune -o -path /var -prune -o -print | LC_ALL=C sort; }
files > /tmp/before
# man-db leaves pages out of minimal systems by this.
rm -f /etc/dpkg/dpkg.cfg.d/*
apt-get install -y --no-install-recommends /ace-dt.deb > /tmp/log
ace-dt version
man ace-dt-mirror-archive | grep -q 'checkpoint-interval'
man 7 ace-dt-airgap | grep -q 'THREE WEEKS'
man 5 ace-dt-archive | grep -q 'oci-layout'
bash -c '. /usr/share/bash-completion/bash_completion; _completion_loader ace-dt
    COMP_WORDS=(ace-dt mirror arch) COMP_CWORD=2 COMP_LINE="ace-dt mirror arch" COMP_POINT=18
    _ace_dt 2> /dev/null; [ "${COMPREPLY[*]}" = archive ]'
[ -e /usr/share/zsh/vendor-completions/_ace-dt ]
apt-get purge -y ace-dt > /tmp/log
files > /tmp/after
diff /tmp/before /tmp/after | grep -v dpkg.cfg.d | grep '^[<>]' && exit 1
echo "package: installed, read, completed, purged without a trace"
END
run_in "$root" "cd / && . /check.sh"

# An empty chroot: the program, authorities, names.
empty=$here/target/fresh/empty
work=$here/target/fresh/work
rm -rf "$empty" "$work"
mkdir -p "$empty/etc/ssl/certs" "$work"
cd "$work"
openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=authority -days 2 2> log
openssl req -newkey rsa:2048 -nodes -keyout reg.key -out reg.csr -subj /CN=reg.internal 2>> log
printf 'subjectAltName=DNS:reg.internal\n' > ext
openssl x509 -req -in reg.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out reg.pem 2>> log
cp "$binary" "$empty/ace-dt"
cp ca.pem "$empty/etc/ssl/certs/ca-certificates.crt"
echo 127.0.0.1 reg.internal > "$empty/etc/hosts"
"$binary" mirror archive -q - images.tar <<END
oci:$here/tests/layout:v1
END
"$binary" util serve -q --address 127.0.0.1:29443 --tls-cert reg.pem --tls-key reg.key images.tar &
serving=$!
trap 'kill $serving' EXIT
sleep 1
image=$("$binary" mirror list -o json images.tar | sed -n 's/.*"digest": "\(.*\)".*/\1/p' | head -n 1)
name=$(SSL_CERT_FILE=ca.pem curl -s --cacert ca.pem --resolve reg.internal:29443:127.0.0.1 \
    https://reg.internal:29443/v2/_catalog | tr -d '[]{}"' | sed 's/.*://; s/,.*//')
echo "reg.internal:29443/$name@$image" > "$empty/sources.list"
chroot "$empty" /ace-dt mirror archive -q /sources.list /out.tar
"$binary" mirror verify -q "$empty/out.tar"
echo "empty chroot: an archive by name over HTTPS"
rm -rf --one-file-system "$root" "$empty" "$work"
