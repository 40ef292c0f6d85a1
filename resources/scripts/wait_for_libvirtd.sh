#!/bin/sh
# Wait until libvirt's daemon answers, at most two minutes. Print its process id.
tries=0
until virsh -q list >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ "$tries" -le 600 ] || { echo "libvirt's daemon has not answered within two minutes." >&2; exit 1; }
    sleep 0.2
done
pgrep -x libvirtd
