#!/bin/sh
# Fail unless a range of a device-DAX node contains a text: find_text_with_daxio.sh DEVICE OFFSET LENGTH TEXT
daxio -i "$1" -k "$2" -l "$3" | grep -q -a -F -e "$4"
