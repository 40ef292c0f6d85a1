#!/bin/sh
# Print the number of bytes of a DIMM's label area that are not zero: count_label_bytes_other_than_zero.sh DIMM
ndctl read-labels "$1" | tr -d '\000' | wc -c
