# Run in the guest by run.sh: the program on a real st driver, with a drive that keeps its data.
. /share/guest.sh
tgt_drive
for n in 1 2 3 4; do tape "T$n" 2; done
image small 9000 100 20000
image large 1000000 100 900000 700000 500000 800000 1200000 100000
image long 1500000 1400000 1500000 1300000 1500000 1400000 1500000 1300000 1500000 1400000 1500000 1300000
echo oci:small:v1 > small.list
echo oci:large:v1 > large.list
echo oci:long:v1 > long.list
ace-dt mirror archive -q small.list small.tar
ace-dt mirror archive -q large.list large.tar
ace-dt mirror archive -q long.list long.tar

for mode in "0 512 small" "0 64Ki large" "0 256Ki large" "0 1Mi large" "512 512 small" "65536 64Ki large" "65536 256Ki large" "1048576 1Mi large"; do
    set -- $mode
    name="blocks of $2, mt setblk $1"
    mt rewind && mt setblk "$1"
    check "$name: archive" ace-dt mirror archive -q -b "$2" --checkpoint led "$3.list" $T
    mt rewind
    check "$name: verify with the checkpoint" ace-dt mirror verify -q --checkpoint led $T
    check "$name: it ends with a filemark" sh -c "mt-st -f $T status | grep -q 'File number=1, block number=0'"
    mt rewind
    check "$name: list" ace-dt mirror list -q $T
    mt rewind
    check "$name: the same bytes" same "$3.tar"
    mt rewind && mt setblk 0
    check "$name: verify in variable mode" ace-dt mirror verify -q $T
done
mt rewind && mt setblk 4096
check "a tape of 1 MiB blocks in a drive set to 4096" ace-dt mirror verify -q $T
check "the drive is set as it was" sh -c "mt-st -f $T status | grep -q 'Tape block size 4096'"
mt setblk 0
check "what the drive tells" sh -c "ace-dt util tape $T > told"
check "of what it is" says "IET VIRTUAL-TAPE" told
check "of its blocks" says "4 to 1,048,576 bytes" told
check "what it does not tell is said" says "not told            the cartridge's memory: the drive does not know this command" told
check "the same by its generic node" sh -c "ace-dt util tape -o json /dev/sg1 | grep -q '\"serial\": \"beaf11\"'"
check "a drive that is used is asked by its generic node" sh -c "exec 9< $T; ace-dt util tape $T | grep -q 'serial number       beaf11'"
ace-dt mirror archive -q --require-room small.list $T 2> err
check "room that is not told is not taken for granted" says "does not tell what is left on the cartridge" err
ace-dt mirror archive -q --require-encryption small.list $T 2> err
check "nor is encryption" says "does not tell whether it encrypts" err
check "a report has what the drive told" sh -c "ace-dt mirror archive -q -b 512 --report rep small.list $T && grep -q '\"device\": \"/dev/nst0\"' rep"
mt rewind
ace-dt mirror archive -q -b 2Mi small.list $T 2> err
check "a block too large is refused with the limits" says "takes blocks of 4 to 1,048,576 bytes" err
mt setblk 512
ace-dt mirror archive -q -b 1000 small.list $T 2> err
check "no multiple of fixed blocks is refused" says "set to blocks of 512 bytes" err
mt setblk 0

mt rewind
ace-dt mirror archive --progress plain small.list $T 2> err
check "the position is told" says "block 0 to block 1, file 0" err
check "a second archive behind the first" ace-dt mirror archive -q large.list $T
mt rewind
check "the first is whole" ace-dt mirror verify -q $T
check "the second is whole" ace-dt mirror verify -q $T
ace-dt mirror archive -q small.list /dev/st0 2> err
check "the node that rewinds is warned of" says "rewinds the tape" err
check "and has rewound" ace-dt mirror verify -q /dev/st0
check "twice" ace-dt mirror verify -q /dev/st0
# What is on the tape is looked at first, which takes time only where there is something.
mt rewind && mt weof 1 && mt rewind
(head -c 65536 /dev/zero; sleep 8; head -c 65536 /dev/zero) | ace-dt util mbuffer -q -m 0 -b 512 -o $T 2> err
check "a drive that has to stop too often is told, with what to try" says "give it a --buffer-size, such as 4Gi" err
# The drive goes away when all but the filemark is written, and in the middle.
online() { tgtadm --lld iscsi --mode logicalunit --op update --tid 1 --lun 1 --params online=$1; }
mkfifo feed
mt rewind && mt weof 1 && mt rewind
ace-dt util mbuffer -q -m 0 -b 512 -i feed -o $T 2> err &
run=$!
exec 3> feed
cat small.tar >&3
sleep 8
online 0
exec 3>&-
wait $run
check "a filemark that cannot be written is an error" sh -c "[ $? -eq 1 ] && grep 'writing the filemark' err"
online 1
mt rewind
rm -f led
ace-dt mirror archive -q -b 64Ki --checkpoint led --checkpoint-interval 128Ki long.list $T 2> err &
run=$!
while [ "$(wc -l < led 2> /dev/null || echo 0)" -lt 5 ]; do sleep 0.02; done
online 0
wait $run
check "a drive that goes away in the middle ends the run" sh -c "[ $? -eq 1 ] && grep 'writing \"$T\" at block' err"
online 1
mt rewind
check "after $(wc -l < led) records the run goes on" ace-dt mirror archive -q -b 64Ki --resume --checkpoint led long.list $T
mt rewind
check "and the tape is as if nothing had happened" same long.tar
mt rewind
check "a pipe fed through util mbuffer" sh -c "ace-dt util mbuffer -q -m 4Mi -b 64Ki < large.tar > $T && mt-st -f $T rewind && ace-dt mirror verify -q $T"
for block in 512 64Ki 1Mi; do
    mt rewind
    check "util mbuffer, blocks of $block, to the tape and to a file" ace-dt util mbuffer -q -m 4Mi -b $block -i small.tar -o $T -o copy --force
    check "and the file has the same bytes" cmp small.tar copy
    mt rewind
    check "and so has what it reads back through a small buffer" sh -c "ace-dt util mbuffer -q -m 64Ki -b 64Ki -i $T -o back --force && cmp small.tar back"
done

cat > registry.yml << 'END'
version: 0.1
storage:
  inmemory:
http:
  addr: 127.0.0.1:5000
END
docker-registry serve registry.yml > registry.log 2>&1 &
registry=$!
echo 127.0.0.1:5000/all:v1 > registry.list
for n in 1 2 3 4 5 6 7 8 9 10; do ace-dt mirror gather -q large.list 127.0.0.1:5000/all:v1 > /dev/null 2>&1 && break || sleep 1; done
mt rewind
check "from a registry" ace-dt mirror archive -q -b 64Ki --checkpoint led registry.list $T
mt rewind
check "from a registry: verify" ace-dt mirror verify -q --checkpoint led $T
ace-dt mirror archive -q registry.list registry.tar
mt rewind
check "from a registry: the same bytes" same registry.tar
# What the README shows.
ln -sf "$(command -v mt-st)" /bin/mt
mkdir readme
cp registry.list readme/sources.list
check "the README's commands for a tape" sh -c "cd readme && sh -eux /share/readme.sh && cmp -n $(stat -c %s registry.tar) week.tar ../registry.tar"
kill $registry

change T1
mt rewind
ace-dt mirror archive -q -b 64Ki --checkpoint led large.list $T 2> err < /dev/null
check "a full tape ends the run" says "the tape is full after" err
check "and says how to go on" says "to go on with what is missing, on another tape" err
check "its checkpoint is true" sh -c "mt-st -f $T rewind && ace-dt mirror verify -q --checkpoint led $T > v; grep -q '^checkpoint' v && ! grep -q 'the checkpoint says' v"
change T1
mt rewind
check "util mbuffer to three tapes" ace-dt util mbuffer -q -m 1Mi -b 64Ki -i large.tar -o $T --volume-command 'change T$ACE_DT_VOLUME'
change T1
mt rewind
check "util mbuffer to three tapes: verify" ace-dt mirror verify -q --volume-command 'change T$ACE_DT_VOLUME' $T
# At a terminal: the next tape is put in when it is asked for.
answer() { # verb
    for n in 2 3; do
        until grep -q "tape of volume $n into $T, to $1 it" typescript 2> /dev/null; do sleep 0.2; done
        change T$n
        sleep 1
        tail -c 11 typescript > question
        echo
    done
}
mkfifo answers
for verb in write read; do
    change T1
    mt rewind
    rm -f typescript
    case $verb in
        write) command="ace-dt mirror archive -b 64Ki large.list $T" ;;
        read) command="ace-dt mirror verify $T" ;;
    esac
    answer $verb > answers &
    check "three tapes, asked for at the terminal, to $verb" sh -c "script -qefc '$command' typescript < answers"
    check "and the status line leaves the question alone" says "give up): " question
done
change T1
mt rewind
ace-dt mirror archive -q -b 64Ki --volume-command 'test $ACE_DT_VOLUME = 2 && change T2' large.list $T 2> err
check "a full second tape is told" says "the tape is full after volume 2, block" err
for label in "" "--label week-48"; do
    change T1
    mt rewind
    check "three tapes $label" ace-dt mirror archive -q -b 64Ki $label --checkpoint led --volume-command 'change T$ACE_DT_VOLUME' large.list $T
    check "the checkpoint names the volumes" says '"vnd.act3-ace.data.volume":"3"' led
    change T1
    mt rewind
    check "three tapes $label: verify" ace-dt mirror verify -q --checkpoint led --volume-command 'change T$ACE_DT_VOLUME' $T
done
for n in 1 2 3; do
    change T$n
    mt rewind
    check "volume $n to a file" ace-dt util mbuffer -q -m 1Mi -i $T -o volume$n
done
check "and the files are the archive" ace-dt mirror verify -q --checkpoint led volume1 volume2 volume3
change T2
mt rewind
ace-dt mirror verify -q $T 2> err
check "the wrong volume is refused" says 'volume 1 of "week-48" is wanted' err
change T1
mt rewind
ace-dt mirror archive -q --force -b 64Ki --volume-command 'echo no tape left; echo jammed >&2; exit 3' large.list $T 2> err
check "why a tape cannot be changed is told" says jammed err

change T0
for mode in "0" "65536"; do
    for after in 0.3 0.6 0.9 1.2; do
        mt rewind && mt setblk $mode
        rm -f led
        ace-dt mirror archive -q -b 64Ki --checkpoint led --checkpoint-interval 128Ki long.list $T &
        sleep $after
        kill -9 $! 2> /dev/null
        wait $! 2> /dev/null
        sleep 0.3
        records=$(wc -l < led 2> /dev/null || echo 0)
        [ "$records" -gt 0 ] || mt rewind
        if [ "$records" -gt 0 ]; then
            if [ "$mode" = 0 ]; then blocks=128Ki; else blocks=64Ki && mt setblk 32768; fi
            ace-dt mirror archive -q -b $blocks --resume --checkpoint led long.list $T 2> err
            mt setblk $mode
            check "killed after $after s: other blocks than those on the tape are refused" says "the tape has blocks of 65,536 bytes" err
            mv long hidden
            check "killed after $after s: no source is there, and the run fails" sh -c "! ace-dt mirror archive -q -b 64Ki --resume --checkpoint led long.list $T"
            mv hidden long
        fi
        check "killed after $after s, $records records, mt setblk $mode: resumed" ace-dt mirror archive -q -b 64Ki --resume --checkpoint led long.list $T
        mt rewind
        check "and the tape is as if nothing had happened" same long.tar
        mt rewind
        check "and its checkpoint is true" ace-dt mirror verify -q --checkpoint led $T
    done
done
mt setblk 0
# Shards of a plan, one behind the other on a tape.
cat small.list large.list > both.list
ace-dt mirror plan -q --shards 2 -o p both.list
shard() { ace-dt mirror archive --no-term --plan p --shard "$1/2" --resume --checkpoint '{shard}.c' --report '{shard}.json' $T; }
mt rewind
check "a shard onto a tape" shard 1
check "a shard that is whole is left as it is" sh -c "ace-dt mirror archive --no-term --plan p --shard 1/2 --checkpoint '{shard}.c' $T 2>&1 | grep -q 'the archive is whole, and nothing was written'"
check "the next stands behind it" shard 2
check "and their reports are merged" ace-dt mirror report merge -o all.json 1.json 2.json
mt rewind
ace-dt util mbuffer -q -m 8M -i $T -o s1.tar && ace-dt util mbuffer -q -m 8M -i $T -o s2.tar
check "both are the plan" ace-dt mirror verify -q --plan p s1.tar s2.tar
ace-dt util tape /dev/st0 > told
check "the node that rewinds is asked without a rewind" sh -c "grep -q VIRTUAL-TAPE told && mt-st -f $T status | grep -q 'File number=2'"
echo "end"
