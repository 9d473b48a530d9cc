# Run in the guest by run.sh: archives on tapes delivered into a registry.
. /share/guest.sh
tgt_drive
for n in 1 2 3 4 5 6 7; do tape "T$n" 3; done
tape T8 64
image small 9000 100 20000
image large 1000000 100 900000 700000 500000 800000 1200000 100000
image long 1500000 1400000 1500000 1300000 1500000 1400000 1500000 1300000 1500000 1400000 1500000 1300000
for list in small large long; do
    echo "oci:$list:v1" > $list.list
    ace-dt mirror archive -q $list.list $list.tar
done
cat > registry.yml << 'END'
version: 0.1
log:
  accesslog:
    disabled: false
storage:
  inmemory:
http:
  addr: 127.0.0.1:5000
END
docker-registry serve registry.yml > registry.log 2>&1 &
registry=$!
R=127.0.0.1:5000
root() { # archive
    tar -xOf "$1" index.json | sed -n 's/.*"digest": "\(sha256:[0-9a-f]*\)".*/\1/p' | head -n 1
}
# Whether all of an archive is in the registry, under a tag.
there() { # image archive
    ace-dt mirror serialize -q --force "$1" back.tar && ace-dt mirror verify -q back.tar > v && [ "$(root back.tar)" = "$(root "$2")" ]
}
# Puts a tape in, and rewinds it.
insert() { # tape
    change "$1"
    mt rewind
}
for n in 1 2 3 4 5 6 7 8 9 10; do ace-dt mirror deserialize -q small.tar $R/first:v1 > /dev/null 2>&1 && break || sleep 1; done
check "from a file" there $R/first:v1 small.tar

n=0
for mode in "0 512 small" "0 64Ki large" "0 256Ki large" "0 1Mi large" "512 512 small" "65536 64Ki large" "65536 256Ki large" "1048576 1Mi large"; do
    set -- $mode
    n=$((n + 1))
    name="blocks of $2, mt setblk $1"
    insert T8
    mt setblk "$1"
    ace-dt mirror archive -q -b "$2" --force "$3.list" $T
    mt rewind
    check "$name: deserialize" ace-dt mirror deserialize -q -m 1Mi $T $R/mode$n:v1
    check "$name: all is there" there $R/mode$n:v1 "$3.tar"
    check "$name: the tape stands behind the filemark" sh -c "mt-st -f $T status | grep -q 'File number=1, block number=0'"
    mt setblk 0
done
insert T8
ace-dt mirror archive -q --force --compression zstd large.list $T
mt rewind
check "compressed" ace-dt mirror deserialize -q -m 1Mi $T $R/zstd:v1
check "compressed: all is there" there $R/zstd:v1 large.tar
mt rewind
check "read past what is there" ace-dt mirror deserialize -q $T $R/zstd:v2

insert T1
ace-dt mirror archive -q -b 64Ki --label week --force large.list $T --volume-command 'change T$ACE_DT_VOLUME'
insert T1
check "over two volumes" ace-dt mirror deserialize -q $T $R/volumes:v1 --volume-command 'change T$ACE_DT_VOLUME'
check "over two volumes: all is there" there $R/volumes:v1 large.tar
insert T1
(exec 3< $T; cat <&3 > part1) && insert T2 && (exec 3< $T; cat <&3 > part2)
check "two volumes as files" ace-dt mirror deserialize -q part1 part2 $R/parts:v1
check "two volumes as files: all is there" there $R/parts:v1 large.tar

# Killed in the middle: the registry stands still after some blobs, and the record is written.
stopped() { # image command...: runs the command, and kills it when four blobs are there and the record says so
    image=$1
    shift
    : > registry.log
    "$@" > out 2>&1 &
    run=$!
    until [ "$(grep -c "PUT.*/v2/$image/blobs/uploads/.* 201" registry.log)" -ge "$blobs" ]; do
        kill -0 $run || return 1
        sleep 0.05
    done
    kill -STOP $registry
    sleep 5
    kill -9 $run
    wait $run
    kill -CONT $registry
    [ -s record ]
}
export ACE_DT_CONCURRENT_HTTP=1
insert T8
ace-dt mirror archive -q -b 64Ki --force long.list $T
mt rewind
blobs=5
check "a run is killed in the middle" stopped killed ace-dt mirror deserialize -q -m 512Ki --checkpoint record $T $R/killed:v1
block=$(sed -n 's/.*"block":\([0-9]*\),"byte".*/\1/p' record)
check "the record names a block in the middle: $block" [ "$block" -gt 20 ]
check "nothing is tagged" sh -c "! ace-dt mirror serialize -q --force $R/killed:v1 back.tar"
check "it goes on at the block" sh -c "ace-dt mirror deserialize -v debug -q --checkpoint record --resume $T $R/killed:v1 > log 2>&1 && grep -q 'going on at block $block' log"
check "and all is there" there $R/killed:v1 long.tar
check "nothing was sent twice" [ "$(grep -c 'PUT.*/v2/killed/blobs/uploads/.* 201' registry.log)" -le 14 ]
insert T1
ace-dt mirror archive -q -b 64Ki --force long.list $T --volume-command 'change T$ACE_DT_VOLUME'
insert T1
blobs=5
rm -f record
check "a run is killed on the second volume" stopped second ace-dt mirror deserialize -q -m 512Ki --checkpoint record $T $R/second:v1 --volume-command 'change T$ACE_DT_VOLUME'
check "the record says so" grep -q '"volume":[2-5]' record
volume=$(sed -n 's/.*"volume":\([0-9]\).*/\1/p' record)
insert T$volume
check "it goes on there" ace-dt mirror deserialize -q --checkpoint record --resume $T $R/second:v1 --volume-command 'change T$ACE_DT_VOLUME'
check "and all is there" there $R/second:v1 long.tar
unset ACE_DT_CONCURRENT_HTTP

# Each image to where a map says, in one pass, into two registries.
sed 's/5000/5001/' registry.yml > second.yml
docker-registry serve second.yml > second.log 2>&1 &
second=$!
cat small.list large.list > two.list
insert T8
ace-dt mirror archive -q -b 64Ki --force two.list $T
ace-dt mirror archive -q two.list two.tar
printf 'oci:,%s/x/\noci:,127.0.0.1:5001/y/\noci:large,127.0.0.1:5001/z/large\n' $R > map.csv
mt rewind
check "each image by a map, into two registries" ace-dt mirror unarchive -q --verify -m 1Mi $T all-prefix=map.csv
archived() { # image...: whether what these are is all that the archive of both images holds
    for image in "$@"; do echo "$image"; done > got.list
    ace-dt mirror archive -q --force got.list got.tar && ace-dt mirror verify -q got.tar > v
    tar -tf got.tar | grep -c blobs/sha256/.
}
want=$(tar -tf two.tar | grep -c blobs/sha256/.)
check "and all is there" [ "$(archived $R/x/small:v1 $R/x/large:v1)" = "$want" ]
check "in the other registry, too" [ "$(archived 127.0.0.1:5001/y/small:v1 127.0.0.1:5001/z/large:v1)" = "$want" ]
sent=$(grep -c 'PUT.*/blobs/uploads/.* 201' second.log)
# Eleven layers and a configuration, once each; and the empty blob, which showed whether it mounts.
check "each blob was sent once to it: $sent" [ "$sent" -le 13 ]
mt rewind
check "again, which reads past all" ace-dt mirror unarchive -q $T all-prefix=map.csv
check "and sends nothing" [ "$(grep -c 'PUT.*/blobs/uploads/.* 201' second.log)" = "$sent" ]
kill $second

# A block in the middle whose bytes are not those that were written: it lies in a layer of `large`.
cat large.list small.list > both.list
ace-dt mirror archive -q both.list both.tar
cp both.tar bad.tar
head -c 512 /dev/urandom | dd of=bad.tar bs=512 seek=5000 conv=notrunc 2> /dev/null
insert T8
ace-dt util mbuffer -q -m 1Mi -b 64Ki -i bad.tar -o $T
mt rewind
ace-dt mirror deserialize -q -m 1Mi $T $R/bad:v1 > err 2>&1
check "a damaged block ends the run" sh -c "[ $? -eq 1 ] && grep -q 'digest mismatch' err"
mt rewind
ace-dt mirror deserialize -q -m 1Mi --continue --wanted again --report report $T $R/bad:v1 > err 2>&1
check "with --continue it is told, and the exit status is 1" sh -c "[ $? -eq 1 ] && grep -q 'is missing, which' err"
check "one image of two is wanted again" sh -c "grep -q '^oci:large:v1' again && ! grep -q small again"
check "the other one is delivered" sh -c "tr -d '\n ' < report | grep -q '\"source\":\"oci:small:v1\",\"digest\":\"sha256:[0-9a-f]*\",\"outcome\":\"delivered\"'"
ace-dt mirror archive -q again again.tar
mt rewind
ace-dt mirror deserialize -q --continue $T again.tar $R/bad:v1 > err 2>&1
check "with what was sent again it is whole" there $R/bad:v1 both.tar
kill $registry
echo "end"
