# A Debian 12 with nothing but its essential packages, for tests in a chroot; to be read by a script that has set $here.

# Lays it down in a directory, with the packages named.
lay_down() { # directory packages
    minbase=$here/target/fresh/minbase-$(echo "$2" | cksum | cut -d ' ' -f 1).tar
    mkdir -p "$here/target/fresh"
    # The Debian that this machine gets its packages from.
    uri=$(apt-get indextargets --format '$(REPO_URI)' | grep -m 1 '/debian/$')
    if [ ! -e "$minbase" ]; then
        mmdebstrap --quiet --variant=minbase --include="$2" bookworm "$minbase.new" "deb $uri bookworm main" --format=tar
        mv "$minbase.new" "$minbase"
    fi
    rm -rf --one-file-system "$1"
    mkdir -p "$1"
    tar -xf "$minbase" -C "$1" --exclude=./dev
    mkdir -p "$1/dev"
    cp /etc/resolv.conf /etc/hosts "$1/etc/"
    # How this machine reaches package registries.
    for name in apt.conf.d/*proxy* apt.conf; do
        for file in /etc/apt/$name; do [ ! -e "$file" ] || cp --parents "$file" "$1"; done
    done
}

# Runs a script in it, as root without CAP_SYS_ADMIN.
run_in() { # directory script
    # /proc and /dev are there in any chroot that is used; to make them a mount namespace of its own is taken.
    unshare --mount sh -eu -c '
        mount -t proc proc "$1/proc"
        mount --rbind /dev "$1/dev"
        exec setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin chroot "$1" /usr/bin/env -i HOME=/root USER=root \
            LANG=C.UTF-8 PATH=/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin sh -eu -c "$2"
    ' chroot "$1" "$2"
}
