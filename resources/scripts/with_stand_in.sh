#!/bin/sh
# Run a command that finds a stand-in for a program: with_stand_in.sh PROGRAM TEXT COMMAND...
# TEXT is the text of the stand-in, which finds the program itself in /mnt. Run it in its own mount namespace, so that no
# other command sees the stand-in.
set -eu
program=$(command -v "$1")
mount -t tmpfs none /mnt
cp "$program" "/mnt/$1"
printf '%s\n' "$2" >/mnt/stand-in
chmod 755 /mnt/stand-in
mount --bind /mnt/stand-in "$program"
shift 2
exec "$@"
