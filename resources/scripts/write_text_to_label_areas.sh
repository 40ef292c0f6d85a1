#!/bin/sh
# Write text to the label area of each DIMM. The kernel cannot read this text as labels, so the guest keeps the content of
# its devices.
ndctl disable-region all || exit
for dimm in /sys/bus/nd/devices/nmem*; do
    yes label | head -c 4096 | ndctl write-labels --size 4096 "${dimm##*/}" || exit
done
ndctl enable-region all
