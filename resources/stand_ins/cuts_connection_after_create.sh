#!/bin/sh
# An ndctl that creates a namespace and then kills the SSH server of its connection.
case "$1" in
    create-namespace)
        /mnt/ndctl "$@"
        pid=$$
        until grep -qs '^sshd' "/proc/$pid/comm"; do pid=$(awk '/^PPid:/ { print $2 }' "/proc/$pid/status"); done
        kill -KILL "$pid"
        ;;
esac
exec /mnt/ndctl "$@"
