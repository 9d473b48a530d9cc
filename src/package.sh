#!/bin/sh
# Makes what is handed on out of the static binary: `package.sh deb` a Debian package, `package.sh dist` that and a TAR, with
# digests and a list of what the binary is made of, into target/dist. Built twice by the same toolchain, the bytes are the
# same: every time is that of the last commit, or $SOURCE_DATE_EPOCH.
set -eu
cd "$(dirname "$0")/.."
what=$1
binary=target/static/x86_64-unknown-linux-musl/release/ace-dt
dist=target/dist
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
# Who answers for the package; Debian's own variables (dch(1)).
maintainer="${DEBFULLNAME:-The authors of ace-dt} <${DEBEMAIL:-ace-dt@ace-dt.invalid}>"
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2> /dev/null)}"
export SOURCE_DATE_EPOCH
case $what in
    deb | dist) ;;
    *)
        echo "package.sh: $what is neither deb nor dist" >&2
        exit 2
        ;;
esac
umask 022
rm -rf "$dist"
mkdir -p "$dist"

# Everything as `make install` lays it down, from a build that is there.
install_tree() { # directory prefix
    make -s install-files BINARY="$binary" DESTDIR="$1" PREFIX="$2"
    find "$1" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
}

deb() {
    tree=$dist/tree
    install_tree "$tree" /usr
    # Where Debian's zsh looks for what packages bring.
    mv "$tree/usr/share/zsh/site-functions" "$tree/usr/share/zsh/vendor-completions"
    doc=$tree/usr/share/doc/ace-dt
    mkdir -p "$doc" "$tree/usr/share/lintian/overrides" "$tree/DEBIAN"
    find "$tree/usr/share/man" -type f -exec gzip -9n {} +
    cat > "$doc/copyright" <<END
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: ace-dt

Files: *
Copyright: 2026 the authors of ace-dt
License: Apache-2.0
 On Debian systems the full text of the Apache License 2.0 is in /usr/share/common-licenses/Apache-2.0.
END
    # It is to run where nothing else is installed.
    cat > "$tree/usr/share/lintian/overrides/ace-dt" <<END
ace-dt: statically-linked-binary [usr/bin/ace-dt]
ace-dt: embedded-library *
ace-dt: shared-library-lacks-prerequisites [usr/bin/ace-dt]
END
    {
        printf 'ace-dt (%s) unstable; urgency=medium\n\n  * See %s.\n\n' "$version" "CHANGELOG.md of this version"
        printf ' -- %s  %s\n' "$maintainer" "$(date -u -R -d "@$SOURCE_DATE_EPOCH")"
    } | gzip -9n > "$doc/changelog.gz"
    gzip -9nc CHANGELOG.md > "$doc/CHANGELOG.md.gz"
    cat > "$tree/DEBIAN/control" <<END
Package: ace-dt
Version: $version
Architecture: amd64
Maintainer: $maintainer
Installed-Size: $(find "$tree/usr" -type f -printf '%s\n' | awk '{ sum += int(($1 + 1023) / 1024) } END { print sum }')
Suggests: mt-st, tmux
Section: utils
Priority: optional
Description: carry container images across an air gap, onto tape
 Gathers container images and other OCI artifacts from many registries and
 writes one archive of them, to a file or straight to a tape drive. Reads it
 back in one pass, checks it, and delivers every image to where it belongs.
 One static binary; it needs nothing but certificate authorities.
END
    (cd "$tree" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum > DEBIAN/md5sums)
    find "$tree" -type d -exec chmod 755 {} +
    find "$tree/usr" "$tree/DEBIAN" -type f ! -path "*/bin/*" -exec chmod 644 {} +
    find "$tree" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
    dpkg-deb --root-owner-group -Zxz --build "$tree" "$dist/ace-dt_${version}_amd64.deb" > "$dist/log"
    rm -r "$tree" "$dist/log"
}

# What the binary is made of, as CycloneDX 1.5 has it: each crate with version, and its digest out of Cargo.lock.
sbom() {
    cargo tree --locked --target x86_64-unknown-linux-musl -e normal,build --prefix none --format '{p}' |
        awk '{ print $1, substr($2, 2) }' | sort -u > "$dist/crates"
    awk -v version="$version" -v crates="$dist/crates" '
        function flush() {
            if (name == "" || sum == "" || !((name " " own) in used)) return
            printf "%s    {\"type\": \"library\", \"name\": \"%s\", \"version\": \"%s\", \"purl\": \"pkg:cargo/%s@%s\"", comma, name, own, name, own
            if (sum != "") printf ", \"hashes\": [{\"alg\": \"SHA-256\", \"content\": \"%s\"}]", sum
            printf "}"
            comma = ",\n"
        }
        BEGIN {
            while ((getline line < crates) > 0) used[line] = 1
            print "{\n  \"bomFormat\": \"CycloneDX\",\n  \"specVersion\": \"1.5\",\n  \"version\": 1,"
            printf "  \"metadata\": {\"component\": {\"type\": \"application\", \"name\": \"ace-dt\", \"version\": \"%s\"}},\n", version
            print "  \"components\": ["
        }
        /^\[\[package\]\]/ { flush(); name = own = sum = "" }
        /^name = /     { gsub(/"/, ""); name = $3 }
        /^version = /  { gsub(/"/, ""); if (name != "") own = $3 }
        /^checksum = / { gsub(/"/, ""); sum = $3 }
        END { flush(); print "\n  ]\n}" }
    ' Cargo.lock > "$dist/ace-dt-$version.cdx.json"
    rm "$dist/crates"
}

case $what in
    deb) deb ;;
    dist)
        deb
        tree=$dist/ace-dt-$version
        install_tree "$tree" ""
        cp README.md CHANGELOG.md LICENSE "$tree"
        find "$tree" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
        tar --sort=name --mode=u=rwX,go=rX --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -C "$dist" \
            -cf - "ace-dt-$version" | gzip -9n > "$dist/ace-dt-$version-x86_64-linux.tar.gz"
        rm -r "$tree"
        sbom
        (cd "$dist" && sha256sum -- * > SHA256SUMS.new && mv SHA256SUMS.new SHA256SUMS)
        # Sign it with `minisign -S -m SHA256SUMS` or `gpg --detach-sign SHA256SUMS`: that covers all of them.
        cat "$dist/SHA256SUMS"
        ;;
esac
