#!/bin/sh
# Assemble a persistent CXL region from a memory device, and print its name: create_cxl_region.sh MEMDEV UUID
decoder=$(cxl list -D -d root -m "$1" | grep -o 'decoder[0-9][0-9.]*' | head -n 1)
cxl create-region -t pmem -d "$decoder" -U "$2" -m "$1" >/dev/null || exit
file=$(grep -l "$2" /sys/bus/cxl/devices/region*/uuid) || exit
basename "$(dirname "$file")"
