#!/bin/sh
# Print all 256 byte values in their order.
for a in 0 1 2 3; do
    for b in 0 1 2 3 4 5 6 7; do
        # shellcheck disable=SC2059  # the format is one byte in octal digits
        for c in 0 1 2 3 4 5 6 7; do printf "\\$a$b$c"; done
    done
done
