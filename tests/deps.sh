#!/bin/sh
# Sees to it that the Debian packages are here which the tests named by the arguments need:
# `test`, `static`, `big`, `second`, `slurm`, `fresh`, `tape`, `bench`. Installs them as root, else says which command does.
set -eu

missing=""
need() { # program package
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}

for what in "$@"; do
    case $what in
        test)
            need docker-registry docker-registry
            need skopeo skopeo
            need podman podman
            need ctr containerd
            need curl curl
            need tmux tmux
            need zsh zsh
            need age age
            need parallel parallel
            need systemd-socket-activate systemd
            need fish fish
            need mandoc mandoc
            need openssl openssl
            need htpasswd apache2-utils
            need zstd zstd
            need tinyproxy tinyproxy-bin
            need microsocks microsocks
            [ -e "/usr/lib/$(uname -m)-linux-gnu/libnss_wrapper.so" ] || missing="$missing libnss-wrapper"
            ;;
        static)
            need musl-gcc musl-tools
            target=x86_64-unknown-linux-musl
            # Where rustup keeps the toolchain, it has the target; elsewhere the distribution must.
            if command -v rustup >/dev/null 2>&1; then
                rustup target list --installed | grep -q "^$target$" || rustup target add "$target" >&2
            fi
            ;;
        big)
            need docker-registry docker-registry
            need strace strace
            need python3 python3
            ;;
        slurm)
            need docker-registry docker-registry
            need munged munge
            need slurmctld slurmctld
            need slurmd slurmd
            need sbatch slurm-client
            ;;
        fresh)
            need mmdebstrap mmdebstrap
            need openssl openssl
            need curl curl
            need setpriv util-linux
            ;;
        second)
            need go golang-go
            ;;
        tape)
            need docker-registry docker-registry
            need qemu-system-x86_64 qemu-system-x86
            need busybox busybox-static
            need cpio cpio
            need depmod kmod
            need script bsdutils
            need xz xz-utils
            ;;
        bench)
            need docker-registry docker-registry
            need mbuffer mbuffer
            need skopeo skopeo
            need go golang-go
            ;;
        *)
            echo "deps.sh: $what is none of test, static, big, second, slurm, fresh, tape, bench" >&2
            exit 2
            ;;
    esac
done

[ -n "$missing" ] || exit 0
install="apt-get update && apt-get install -y --no-install-recommends$missing"
if [ "$(id -u)" -eq 0 ]; then
    export DEBIAN_FRONTEND=noninteractive
    # docker-registry's own service is not wanted: every test starts its own.
    sh -c "$install" >&2
else
    echo "packages are missing; this installs them: sudo sh -c '$install'" >&2
    exit 1
fi
