#!/bin/sh
# Kill a process, and wait until it has ended: kill_and_wait.sh PID
kill -KILL "$1" || exit
tries=0
while kill -0 "$1" 2>/dev/null; do
    tries=$((tries + 1))
    [ "$tries" -le 300 ] || { echo "Process $1 has not ended within 30 s." >&2; exit 1; }
    sleep 0.1
done
