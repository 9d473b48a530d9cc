#!/bin/sh
# A virtual machine with a tape drive, under qemu: Debian's stock kernel with its st driver, and an
# SSC drive that tgt emulates on a file, attached by iSCSI over the guest's loopback.
#
#   machine.sh build BINARY     fetches packages, makes kernel and initramfs (in target/tape)
#   machine.sh boot DIR SCRIPT [SECONDS]
#                               boots; the guest runs DIR/SCRIPT with DIR as its /share, and what it
#                               writes there stays; killed after SECONDS, if they are given
#
# Nothing is installed and no service is started: packages are unpacked below target/tape.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)/target/tape
packages="tgt open-iscsi libopeniscsiusr mt-st libaio1 libibverbs1 librdmacm1 libnl-3-200 libnl-route-3-200"
modules="st iscsi_tcp crc32c_generic 9p 9pnet_virtio virtio_pci"

fetch() ( # package
    to=$top/debs/$1
    [ ! -d "$to" ] || exit 0
    mkdir -p "$top/fetch" "$top/debs"
    cd "$top/fetch"
    rm -f ./*.deb
    apt-get -qq -o APT::Sandbox::User=root download "$1" >&2
    dpkg-deb -x ./*.deb "$to.new"
    mv "$to.new" "$to"
)

# The libraries that a program needs, from the packages or else from this machine.
libraries() { # root program
    paths=$(find "$1/usr/lib" "$1/lib" -name '*.so*' -printf '%h\n' 2>/dev/null | sort -u | paste -sd:)
    LD_LIBRARY_PATH=$paths ldd "$2" | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p; s/^[[:space:]]*\(\/[^ ]*\).*/\1/p'
}

build() { # binary
    kernel=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
    if [ -z "$kernel" ]; then
        apt-get -qq update >&2 || true
        kernel=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
    fi
    [ -n "$kernel" ] || { echo "apt knows no linux-image-amd64" >&2; exit 1; }
    for package in $packages "$kernel"; do fetch "$package"; done
    root=$top/root
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
    for program in "$root/usr/sbin/tgtd" "$root/usr/sbin/tgtadm" "$root/usr/sbin/tgtimg" "$root/sbin/iscsistart" \
        "$root/bin/mt-st" "$root/bin/ace-dt" "$root/bin/docker-registry" "$root/bin/script"; do
        for library in $(libraries "$root" "$program"); do
            case $library in "$root"/*) continue ;; esac
            mkdir -p "$root$(dirname "$library")"
            cp -L "$library" "$root$library"
        done
    done
    version=${kernel#linux-image-}
    tree=$top/debs/$kernel
    [ -f "$tree/lib/modules/$version/modules.dep" ] || depmod -b "$tree" "$version"
    for module in $modules; do
        modprobe -d "$tree" -S "$version" --show-depends "$module"
    done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' > "$top/modules"
    mkdir -p "$root/modules"
    while read -r module; do
        cp "$module" "$root/modules/"
        basename "$module"
    done < "$top/modules" > "$root/modules/order"
    (cd "$root" && find . | cpio --quiet -o -H newc) | gzip -1 > "$top/initramfs.new"
    mv "$top/initramfs.new" "$top/initramfs"
    cp "$tree/boot/vmlinuz-$version" "$top/kernel"
}

boot() { # directory script [seconds]
    set -- "$(cd "$1" && pwd)" "$2" "${3:-1500}"
    timeout --signal=KILL "$3" qemu-system-x86_64 -machine q35 -accel tcg,thread=multi -cpu max -smp 2 -m 2048 \
        -kernel "$top/kernel" -initrd "$top/initramfs" -append "console=ttyS0 quiet panic=-1 script=$2" \
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
