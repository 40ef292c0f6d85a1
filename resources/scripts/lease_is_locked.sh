#!/bin/sh
# Fail unless the kernel lists a lock on a lease record: lease_is_locked.sh NAME
inode=$(stat -c %i "/var/lib/vpmem/leases/$1") && grep "FLOCK.*:$inode " /proc/locks
