#!/bin/sh
# Undo set_clock.sh, fill_disk.sh and get_in_the_way.sh: undo_disturbances.sh BOOT_FILE FILLER DIRECTORY
[ ! -e "$1" ] || date -s "@$(($(cat "$1") + $(cut -d. -f1 /proc/uptime)))"
rm -f "$1" "$2" /tmp/tmp.anybody /dev/shm/anybody
pkill -u 65534 -x sleep
rm -rf "$3"
