#!/bin/sh
# Print the CXL regions of the host, one on each line.
for region in /sys/bus/cxl/devices/region*; do
    [ ! -e "$region" ] || echo "${region##*/}"
done
