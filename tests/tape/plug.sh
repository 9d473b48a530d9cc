# Run in the guest by run.sh, twice: the first time the plug is pulled in the middle of an archive, and the
# tape, what is to be archived and the checkpoint are kept.
mkdir -p /share/plug
tapes=/share/plug
. /share/guest.sh
tgt_drive
cd /share/plug
if [ ! -f led ]; then
    image long 1500000 1400000 1500000 1300000 1500000 1400000 1500000 1300000
    echo oci:long:v1 > long.list
    ace-dt mirror archive -q long.list long.tar
    ace-dt mirror archive -q -b 64Ki --checkpoint led --checkpoint-interval 128Ki long.list $T &
    while [ "$(wc -l < led 2> /dev/null || echo 0)" -lt 5 ]; do sleep 0.02; done
    echo b > /proc/sysrq-trigger
    sleep 60
fi
records=$(wc -l < led)
check "the plug was pulled after $records of 11 records: resumed" ace-dt mirror archive -q -b 64Ki --resume --checkpoint led long.list $T
mt rewind
check "and the tape is as if nothing had happened" same long.tar
mt rewind
check "and its checkpoint is true" ace-dt mirror verify -q --checkpoint led $T
echo "end"
