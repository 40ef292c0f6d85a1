#!/bin/sh
# An ndctl that exits 0 and prints text that is not JSON.
echo 'Segmentation fault (core dumped)'
