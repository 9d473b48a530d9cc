# Run in the guest by run.sh: a drive that answers READ POSITION, has an early warning, and keeps no data.
. /share/guest.sh
at() { # block
    [ "$(mt tell)" = "At block $1." ] || { mt tell; return 1; }
}
image small 9000 100 20000
image large 3000000 3000000
echo oci:small:v1 > small.list
echo oci:large:v1 > large.list

check "what the drive tells" sh -c "ace-dt util tape $T > told"
check "where it stands" grep -Eq "^position +(at the beginning|block 0)" told
ace-dt mirror archive --progress plain -b 512 --checkpoint led small.list $T 2> err
check "the position is told where the driver does not know it" says "block 0 to block 82 of the tape" err
check "the checkpoint has it" says "offset=0,position=0,size=512" led
check "the drive stands behind the filemark" at 83
# The driver has counted since the tape was looked at; after this it knows the drive's address only.
mt seek 83
ace-dt mirror archive --progress plain -b 512 --checkpoint led small.list $T 2> err
check "the second archive begins there" says "block 83 to block 165 of the tape" err
check "and its checkpoint says so" says "position=83,size=512" led
mt rewind
ace-dt mirror archive -v debug -q -b 512 --resume --checkpoint led small.list $T 2> err
check "resuming seeks by the drive's address" says "sought block 83 of the tape, and it stands at 83" err
check "and what is not the archive is refused" says "is not volume 1 of this archive" err
mt rewind && mt setblk 512
check "fixed blocks of 512" ace-dt mirror archive -q -b 4Ki --checkpoint led small.list $T
# 82 blocks, padded to a whole write of eight.
check "the drive stands behind the filemark" at 89
mt rewind && mt setblk 0
ace-dt mirror archive -q -b 512 --checkpoint led large.list $T 2> err < /dev/null
check "the early warning ends the run" says "the tape is full after block" err
blocks=$(sed -n 's/.*the tape is full after block \([0-9,]*\) .*/\1/p' err | tr -d ,)
check "and the drive stands where it says, behind $blocks blocks and a filemark" at $((blocks + 1))
offset=$(tail -n 1 led | sed -n 's/.*data.offset":"\([0-9]*\)".*/\1/p')
check "the checkpoint speaks of no more than that: $offset bytes" [ "$offset" -le $((blocks * 512)) ]
echo "end"
