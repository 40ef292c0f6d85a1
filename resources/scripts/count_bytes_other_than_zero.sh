#!/bin/sh
# Print the number of bytes of a file that are not zero: count_bytes_other_than_zero.sh FILE
set -eu
tr -d '\000' <"$1" | wc -c
