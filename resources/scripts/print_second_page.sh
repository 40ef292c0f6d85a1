#!/bin/sh
# Print the bytes from 4 KiB to 8 KiB of a block device in hexadecimal digits, without the page cache: print_second_page.sh NODE
dd if="$1" bs=4096 skip=1 count=1 iflag=direct status=none | od -An -v -tx1 | tr -d ' \n'
