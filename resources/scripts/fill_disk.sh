#!/bin/sh
# Fill the disk of a file to the last block, so that no file can be written: fill_disk.sh FILE
# The file grows by the largest steps that fit. Fail if bytes can be written afterwards.
size=0
step=$((1 << 40))
while [ "$step" -ge 4096 ]; do
    if fallocate -l $((size + step)) "$1" 2>/dev/null; then size=$((size + step)); else step=$((step / 2)); fi
done
head -c 64K /dev/zero 2>/dev/null >"$1.more"
full=$?
rm "$1.more"
[ "$full" -ne 0 ]
