#!/bin/sh
# Change bytes of a file, so that none keeps its value: change_bytes.sh FILE OFFSET COUNT
set -eu
for value in $(od -An -v -tu1 -j "$2" -N "$3" "$1"); do
    # shellcheck disable=SC2059  # the format is one byte in octal digits
    printf "\\$(printf '%03o' $((value ^ 85)))"
done | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
