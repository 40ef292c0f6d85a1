#!/bin/sh
# An ndctl that never ends when it should create a namespace.
case "$1" in create-namespace) exec sleep 600 ;; esac
exec /mnt/ndctl "$@"
