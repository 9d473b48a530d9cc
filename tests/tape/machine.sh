#!/bin/sh
# A virtual machine with a tape drive, under qemu: Debian's kernel with its st driver, and one of two drives.
# `tgt`, with Debian's stock kernel: an SSC drive that tgt emulates on a file, attached by iSCSI over the
# guest's loopback. It keeps its data, and does not answer READ POSITION. `debug`, with the kernel of the
# next release's backports: that of the module scsi_debug. It answers READ POSITION and has an early
# warning, and keeps only the lengths of blocks and the first bytes of each.
#
#   machine.sh build BINARY [DRIVE]
#                               fetches packages, makes kernel and initramfs (in target/tape)
#   machine.sh boot DIR SCRIPT [SECONDS [DRIVE]]
#                               boots; the guest runs DIR/SCRIPT with DIR as its /share, and what it
#                               writes there stays; killed after SECONDS, if they are given
#
# Nothing is installed and no service is started: packages are unpacked below target/tape.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)/target/tape

# What is needed for each drive: packages, modules, and the release that has the kernel, if not this one.
drive() { # drive
    drive=$1
    made=$top/$drive
    case $drive in
        tgt)
            packages="tgt open-iscsi libopeniscsiusr mt-st libaio1 libibverbs1 librdmacm1 libnl-3-200 libnl-route-3-200"
            modules="st sg iscsi_tcp crc32c_generic 9p 9pnet_virtio virtio_pci"
            release=
            ;;
        debug)
            packages=mt-st
            modules="st sg scsi_debug 9p 9pnet_virtio virtio_pci"
            release=trixie-backports
            ;;
        *)
            echo "machine.sh: $1 is none of tgt, debug" >&2
            exit 2
            ;;
    esac
    mkdir -p "$made"
}

# apt for the release that has the kernel, beside that of this machine.
apt() { # apt-get or apt-cache, words...
    program=$1
    shift
    if [ -z "$release" ]; then
        "$program" -qq -o APT::Sandbox::User=root "$@"
        return
    fi
    mkdir -p "$top/apt/lists/partial" "$top/apt/cache/archives/partial"
    uri=$(apt-get indextargets --format '$(REPO_URI)' | grep -m 1 '/debian/$')
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri $release main" > "$top/apt/sources.list"
    "$program" -qq -o APT::Sandbox::User=root -o Dir::Etc::SourceList="$top/apt/sources.list" \
        -o Dir::Etc::SourceParts=- -o Dir::State::Lists="$top/apt/lists" -o Dir::Cache="$top/apt/cache" "$@"
}

# The kernel that linux-image-amd64 stands for.
kernel_package() {
    apt apt-cache depends linux-image-amd64 2> /dev/null | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1
}

fetch() ( # release package
    release=$1
    to=$top/debs/$2
    [ ! -d "$to" ] || exit 0
    mkdir -p "$top/fetch" "$to.new"
    cd "$top/fetch"
    rm -f ./*.deb
    apt apt-get download "$2" >&2
    dpkg-deb -x ./*.deb "$to.new"
    rm -f ./*.deb
    mv "$to.new" "$to"
)

# The libraries that a program needs, from the packages or else from this machine.
libraries() { # root program
    paths=$(find "$1/usr/lib" "$1/lib" -name '*.so*' -printf '%h\n' 2>/dev/null | sort -u | paste -sd:)
    LD_LIBRARY_PATH=$paths ldd "$2" 2> /dev/null | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p; s/^[[:space:]]*\(\/[^ ]*\).*/\1/p'
}

build() { # binary [drive]
    drive "${2:-tgt}"
    kernel=$(kernel_package)
    if [ -z "$kernel" ]; then
        apt apt-get update >&2 || true
        kernel=$(kernel_package)
    fi
    [ -n "$kernel" ] || { echo "apt knows no linux-image-amd64" >&2; exit 1; }
    version=${kernel#linux-image-}
    for package in $packages; do fetch "" "$package"; done
    # Newer kernels come in parts.
    tree=$made/$kernel
    if [ ! -d "$tree" ]; then
        mkdir -p "$tree.new/usr/lib"
        ln -s usr/lib "$tree.new/lib"
        for package in "$kernel" "linux-base-$version" "linux-binary-$version" "linux-modules-$version"; do
            [ -n "$(apt apt-cache show "$package" 2> /dev/null)" ] || continue
            fetch "$release" "$package"
            (cd "$top/debs/$package" && find . -name '*.ko*' -o -name 'modules.*' -o -name 'vmlinuz*') > "$made/files"
            tar -C "$top/debs/$package" -cf - -T "$made/files" | tar -C "$tree.new" --keep-directory-symlink -xf -
            rm -rf "$top/debs/$package"
        done
        depmod -b "$tree.new" "$version"
        mv "$tree.new" "$tree"
    fi
    root=$made/root
    rm -rf "$root"
    mkdir -p "$root/bin" "$root/dev" "$root/proc" "$root/sys" "$root/tmp" "$root/run" "$root/var/run" "$root/share" \
        "$root/etc" "$root/var/lib/registry"
    for package in $packages; do
        (cd "$top/debs/$package" && tar -cf - --exclude=./usr/share --exclude=./lib/systemd .) | tar -C "$root" -xf -
    done
    cp "$(command -v busybox)" "$root/bin/busybox"
    cp "$1" "$root/bin/ace-dt"
    cp "$(command -v docker-registry)" "$root/bin/docker-registry"
    cp "$(command -v script)" "$root/bin/script"
    cp "$here/init" "$root/init"
    chmod 755 "$root/init"
    for program in "$root"/usr/sbin/tgt* "$root/sbin/iscsistart" "$root/bin/mt-st" "$root/bin/ace-dt" \
        "$root/bin/docker-registry" "$root/bin/script"; do
        [ -f "$program" ] || continue
        for library in $(libraries "$root" "$program"); do
            case $library in "$root"/*) continue ;; esac
            mkdir -p "$root$(dirname "$library")"
            cp -L "$library" "$root$library"
        done
    done
    mkdir -p "$root/modules"
    for module in $modules; do
        modprobe -d "$tree" -S "$version" --show-depends "$module"
    done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' | while read -r module; do
        name=$(basename "$module" .xz)
        case $module in
            *.xz) xz -dc "$module" > "$root/modules/$name" ;;
            *) cp "$module" "$root/modules/$name" ;;
        esac
        echo "$name"
    done > "$root/modules/order"
    (cd "$root" && find . | cpio --quiet -o -H newc) | gzip -1 > "$made/initramfs.new"
    mv "$made/initramfs.new" "$made/initramfs"
    cp "$(find "$tree" -name 'vmlinuz*' -type f | head -n 1)" "$made/kernel"
}

boot() { # directory script [seconds [drive]]
    set -- "$(cd "$1" && pwd)" "$2" "${3:-1500}" "${4:-tgt}"
    drive "$4"
    timeout --signal=KILL "$3" qemu-system-x86_64 -machine q35 -accel tcg,thread=multi -cpu max -smp 2 -m 2048 \
        -kernel "$made/kernel" -initrd "$made/initramfs" -append "console=ttyS0 quiet panic=-1 script=$2" \
        -virtfs "local,path=$1,mount_tag=share,security_model=none" \
        -display none -no-reboot -nic none -serial stdio -monitor none
}

command=$1
shift
case $command in
    build | boot) "$command" "$@" ;;
    *)
        echo "machine.sh: $command is none of build, boot" >&2
        exit 2
        ;;
esac
