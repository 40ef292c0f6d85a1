#!/bin/sh
# Run a command that finds these directories empty: with_empty_directories.sh 'DIRECTORY ...' COMMAND...
# Run it in its own mount namespace, so that no other command finds them empty.
set -eu
for directory in $1; do mount -t tmpfs none "$directory"; done
shift
exec "$@"
