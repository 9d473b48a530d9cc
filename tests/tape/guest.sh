# For the scripts that run in the guest: checks, each of which prints a line that begins with `ok` or
# `FAILED`, images, and an SSC drive that tgt emulates, with tapes in $tapes.
tapes=${tapes:-/tmp}
cd /tmp
T=/dev/nst0
mt() { mt-st -f $T "$@"; }
check() { # name command...
    what=$1
    shift
    if "$@" > out 2>&1; then echo "ok $what ($(cut -d' ' -f1 /proc/uptime) s)"; else echo "FAILED $what"; tail -n 5 out; fi
}
says() { # text file
    grep -qF -e "$1" "$2"
}
tape() { # name megabytes
    tgtimg --op new --device-type tape --barcode "$1" --size "$2" --type data --file "$tapes/$1.tape" > /dev/null
}
blob() { # layout: takes its file x in, and says its digest
    h=$(sha256sum "$1/x" | cut -d' ' -f1)
    mv "$1/x" "$1/blobs/sha256/$h"
    echo "sha256:$h"
}
# An image of layers of the sizes given, as a layout.
image() { # directory size...
    d=$1
    shift
    mkdir -p "$d/blobs/sha256"
    layers=
    for n in "$@"; do
        head -c "$n" /dev/urandom > "$d/x"
        layers="$layers${layers:+,}{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",\"digest\":\"$(blob "$d")\",\"size\":$n}"
    done
    c='{"architecture":"amd64","os":"linux"}'
    printf %s "$c" > "$d/x"
    printf %s "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":\"$(blob "$d")\",\"size\":${#c}},\"layers\":[$layers]}" > "$d/y"
    mv "$d/y" "$d/x"
    size=$(stat -c %s "$d/x")
    printf '{"imageLayoutVersion":"1.0.0"}' > "$d/oci-layout"
    printf %s "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"$(blob "$d")\",\"size\":$size,\"annotations\":{\"org.opencontainers.image.ref.name\":\"v1\"}}]}" > "$d/index.json"
}

# The tape from where it stands: the same bytes, and zeros at the most behind them.
same() { # archive
    size=$(stat -c %s "$1")
    dd if=$T of=got bs=1048576 2> /dev/null
    head -c "$size" got | cmp - "$1" && [ "$(tail -c +$((size + 1)) got | tr -d '\0' | wc -c)" -eq 0 ]
}

# Starts the drive that tgt emulates, with the tape T0.
tgt_drive() {
    mkdir -p /run/tgtd /var/run/tgtd
    # Puts another tape into the drive.
    cat > /bin/change <<'END'
#!/bin/sh
for to in online=0 path=/tmp/$1.tape online=1; do
    tgtadm --lld iscsi --mode logicalunit --op update --tid 1 --lun 1 --params $to || exit 1
done
END
    chmod 755 /bin/change
    [ -f "$tapes/T0.tape" ] || tape T0 64
    tgtd -f -d 1 > /tmp/tgtd.log 2>&1 &
    sleep 1
    N=iqn.2026-01.com.example
    tgtadm --lld iscsi --mode target --op new --tid 1 --targetname $N:tape
    tgtadm --lld iscsi --mode logicalunit --op new --tid 1 --lun 1 --backing-store $tapes/T0.tape --device-type=tape --bstype=ssc
    tgtadm --lld iscsi --mode target --op bind --tid 1 --initiator-address ALL
    iscsistart -i $N:host -t $N:tape -g 1 -a 127.0.0.1 -p 3260 > /dev/null
    sleep 1
}
