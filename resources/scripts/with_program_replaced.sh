#!/bin/sh
# Run a command that finds a file in place of a program: with_program_replaced.sh PROGRAM FILE COMMAND...
# Run it in its own mount namespace, so that no other command sees the replacement.
set -eu
mount --bind "$2" "$(command -v "$1")"
shift 2
exec "$@"
