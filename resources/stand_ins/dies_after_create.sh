#!/bin/sh
# An ndctl that is killed after it created a namespace.
case "$1" in create-namespace) /mnt/ndctl "$@"; kill -KILL $$ ;; esac
exec /mnt/ndctl "$@"
