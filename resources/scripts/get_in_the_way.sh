#!/bin/sh
# Let a user without privileges get in the way of a run: get_in_the_way.sh DIRECTORY DEVICE REGION
# The user creates files that are named like a device and like temporary files, and locks the region's node in sysfs.
# The user's process ends after ten minutes. Return when it has the lock, or fail after 30 s.
set -eu
mkdir -p "$1"
chmod 777 "$1"
cd "$1"
# shellcheck disable=SC2016  # the inner shell reads these variables
setpriv --reuid 65534 --regid 65534 --clear-groups sh -c '
    touch "$1" /tmp/tmp.anybody /dev/shm/anybody && exec 8<>"$1" 9<"/sys/bus/nd/devices/$2" &&
        flock 9 && touch locked && exec sleep 600
' sh "${2##*/}" "$3" </dev/null >/dev/null 2>&1 &
tries=0
until [ -e locked ]; do
    tries=$((tries + 1))
    [ "$tries" -le 300 ] || { echo "The user has not got the lock within 30 s." >&2; exit 1; }
    sleep 0.1
done
