#!/bin/sh
# Run a command on a machine that has this host name: with_host_name.sh NAME COMMAND...
# Run it in its own UTS namespace, so that no other command sees the name.
set -eu
hostname "$1"
shift
exec "$@"
