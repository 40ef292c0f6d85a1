#!/bin/sh
# Print 1 if the region of a block device is read-only, otherwise 0: print_read_only_of_block_device.sh NODE
cat "/sys/class/block/${1##*/}/device/../read_only"
