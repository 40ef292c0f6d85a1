#!/bin/sh
# Print the slot count in the first index block of a DIMM's label area, which is at byte 56: print_label_slot_count.sh DIMM
ndctl read-labels "$1" | od -A n -t u4 -j 56 -N 4
