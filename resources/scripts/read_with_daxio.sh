#!/bin/sh
# Print the first bytes from an offset of a device-DAX node: read_with_daxio.sh DEVICE OFFSET COUNT
daxio -i "$1" -k "$2" -l 4096 | head -c "$3"
