#!/bin/sh
# Set the clock to the right time plus some seconds: set_clock.sh FILE SECONDS
# FILE keeps the right time of boot. From this time the script computes the right time after the clock was set.
set -eu
up=$(cut -d. -f1 /proc/uptime)
[ -e "$1" ] || echo $(($(date +%s) - up)) >"$1"
date -s "@$(($(cat "$1") + up + $2))"
