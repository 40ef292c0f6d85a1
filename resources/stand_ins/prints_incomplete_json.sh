#!/bin/sh
# An ndctl that exits 0 and prints only the beginning of its JSON.
/mnt/ndctl "$@" | head -c 200
exit 0
