# Run in the guest by run.sh: which tape is in the drive, and what is on it, before anything is written to it.
. /share/guest.sh
tgt_drive
for n in 1 2 3 4 5 6; do tape "T$n" 2; done
tape F0 64
tape B1 2
tape B2 2
image small 9000 100 20000
image other 1500000 1400000
image large 1000000 100 900000 700000 500000 800000 1200000 100000
image mini 60000 50000
image middle 60000 50000 40000 50000 60000 50000 60000 30000
image long 1500000 1400000 1500000 1300000 1500000 1400000 1500000 1300000
for name in small mini middle other large long; do
    echo "oci:$name:v1" > $name.list
    ace-dt mirror archive -q $name.list $name.tar
done
put() { # tape
    change "$1" && mt rewind
}
refused() { # text command...
    text=$1
    shift
    if "$@" 2> err > /dev/null; then echo "it was not refused"; return 1; fi
    says "$text" err || { cat err; return 1; }
}
# Writes the beginning of an archive to the tape, and is killed.
begin() { # block [flag...]
    block=$1
    shift
    if [ "$block" = 512 ]; then begun=middle interval=16Ki; else begun=long interval=128Ki; fi
    rm -f led
    ace-dt mirror archive -q -b "$block" --checkpoint led --checkpoint-interval $interval "$@" $begun.list $T &
    run=$!
    while [ "$( (wc -l < led) 2> /dev/null || echo 0)" -lt 4 ] && kill -0 $run 2> /dev/null; do sleep 0.02; done
    kill -9 $run
    wait $run 2> /dev/null
    sleep 0.3
}
go_on() { # block [flag...]
    block=$1
    shift
    ace-dt mirror archive -q -b "$block" --checkpoint led --resume "$@" $begun.list $T
}

cmp_begin() {
    head -c 1500000 large.tar > begin
    tail -c +$((1 + 512 * $(head -c 512 volume1 | grep -c "Volume 1"))) volume1 | head -c 1500000 | cmp - begin
}
read_by() { # program
    case $1 in
        mbuffer) ace-dt util mbuffer -q -m 1Mi -i $T -o back --force ;;
        *) ace-dt mirror "$1" -q $T ;;
    esac
}
for program in verify list mbuffer; do
    put T5
    check "$program: a blank tape" refused "the tape is blank" read_by $program
done
put T6
ace-dt mirror archive -q small.list $T
for program in verify list mbuffer; do
    put T6 && mt fsf 1
    check "$program: the end of data" refused "the end of data is here" read_by $program
done
put T6 && mt weof 1 && mt rewind
for program in verify list mbuffer; do
    mt rewind
    check "$program: a filemark" refused "a filemark is here" read_by $program
done

put T6 && mt setblk 0
check "a tape with a label" ace-dt mirror archive -q -b 64Ki --label week other.list $T --volume-command 'change T4'
for size in 512 1024 65536; do
    put T6 && mt setblk $size
    check "mt setblk $size: it is read" ace-dt mirror verify -q --volume-command 'change T4' $T
done
mt setblk 0
put T6
check "a label of another series" refused 'is volume 1 of "week"' ace-dt mirror archive -q --label month small.list $T
put T6
check "a label, and none is wanted" refused '--force writes over it' ace-dt mirror archive -q small.list $T
put T6
check "it stays as it was" ace-dt mirror verify -q --volume-command 'change T4' $T
put T1
check "a second volume with the label of another series" refused 'is volume 1 of "week"' ace-dt mirror archive -q -b 64Ki --label month --volume-command 'change T6' large.list $T
put T1
check "its own label is written over" ace-dt mirror archive -q -b 64Ki --label month --volume-command 'change T$ACE_DT_VOLUME' large.list $T
put T6
check "by force" ace-dt mirror archive -q --force -b 64Ki small.list $T 2> err
mt rewind
ace-dt mirror archive -q small.list $T 2> err
check "what is written over is told" says "a file of the tape is written over" err

for label in "" "--label month"; do
    for force in "" --force; do
        put T1
        check "volume 1 was left in the drive $label $force" refused "volume 2 is wanted" ace-dt mirror archive -q --force -b 64Ki $label --volume-command true large.list $T
        put T1
        ace-dt util mbuffer -q -m 1Mi -i $T -o volume1 --force
        check "and has what was written to it" cmp_begin
    done
    rm -f led
    put T1
    ace-dt mirror archive -q --force -b 64Ki $label --checkpoint led --volume-command 'test $ACE_DT_VOLUME = 2 && change T2' large.list $T 2> err
    check "stopped on volume 2 $label" says "the tape is full after volume 2" err
    # The checkpoint speaks of volume 2.
    check "its checkpoint is that of volume 2" grep -q '"vnd.act3-ace.data.volume":"2"' led
    resume="ace-dt mirror archive -q --force -b 64Ki $label --checkpoint led --resume large.list $T"
    put T1
    check "resumed with volume 1 in its place $label" refused "is not volume 2 of this archive" $resume
    put T3
    ace-dt mirror archive -q --force -b 64Ki ${label:+--label other} other.list $T --volume-command 'change T4' < /dev/null
    put T3
    check "resumed with another archive's tape $label" refused "is not volume 2 of this archive" $resume
    put T3
    check "which is whole" ace-dt mirror verify -q --volume-command 'change T4' $T
    if [ -z "$label" ]; then put B1; else put B2; fi
    check "resumed with a blank tape $label" refused "blank" $resume
    put T2
    check "resumed with the right one $label" $resume --volume-command 'change T$ACE_DT_VOLUME'
    put T1
    check "and it is whole $label" ace-dt mirror verify -q --checkpoint led --volume-command 'change T$ACE_DT_VOLUME' $T
done

for block in 512 64Ki; do
    if [ $block = 512 ]; then list=mini; else list=other; fi
    for label in "" "--label month"; do
        put F0
        ace-dt mirror archive -q --force -b $block ${label:+--label other} $list.list $T
        put T0
        begin $block --force $label
        put F0
        check "blocks of $block $label: another archive's tape" refused "is not volume 1 of this archive" go_on $block $label
        mt rewind
        check "which is whole" ace-dt mirror verify -q $T
        put T0
        check "blocks of $block $label: the right one" go_on $block $label
        mt rewind
        check "is whole" ace-dt mirror verify -q --checkpoint led $T
    done
done

put T0
begin 64Ki --force
# The kernel writes a filemark when a killed run's last call was a write; not when it was a flush.
mt rewind && { mt fsf 1 2> /dev/null || mt weof 1; }
check "another archive behind the interrupted one" sh -c "mt-st -f $T rewind && mt-st -f $T fsf 1 && ace-dt mirror archive -q small.list $T"
check "is not lost" refused "behind this archive" go_on 64Ki
check "and is whole" sh -c "mt-st -f $T rewind && mt-st -f $T fsf 1 && ace-dt mirror verify -q $T"
check "but by force" go_on 64Ki --force
mt rewind
check "and the tape is as if nothing had happened" same long.tar
check "another archive behind the whole one" ace-dt mirror archive -q small.list $T
check "which is left alone" go_on 64Ki
check "and the tape stands behind it" ace-dt mirror verify -q $T
mt rewind
check "and it is whole" same long.tar
mt rewind
begin 64Ki
mt rewind
ace-dt mirror archive -q -b 32Ki long.list $T
check "rewritten with other blocks" refused "this archive" go_on 64Ki
mt rewind
check "it is whole" ace-dt mirror verify -q $T

# A signal ends the run after a block, whatever is in the buffer.
mt rewind
ace-dt mirror archive -q -b 64Ki -m 32Mi --hwm 1 --checkpoint led2 long.list $T 2> err &
run=$!
sleep 0.7
begun=$(cut -d. -f1 /proc/uptime)
kill -INT $run
wait $run
check "SIGINT ends it within 3 s" [ $(($(cut -d. -f1 /proc/uptime) - begun)) -le 3 ]
online() { tgtadm --lld iscsi --mode logicalunit --op update --tid 1 --lun 1 --params online=$1; }
online 0
begun=$(cut -d. -f1 /proc/uptime)
(sleep 8 && online 1) &
back=$!
ace-dt mirror verify -q $T > /dev/null 2> err
check "without a tape it says so after $(($(cut -d. -f1 /proc/uptime) - begun)) s" grep -qE "waiting for a tape|No medium found" err
wait $back
echo "end"
