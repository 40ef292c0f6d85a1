#!/bin/sh
# End the connections to this host that keep leases: end_connections.sh other|all
# "other" keeps the connection of this script. "all" ends that connection too, as the last one. Print the process id of
# each SSH server that was ended. Fail if there is none, or if one does not end.
set -u

# Print the process id of the nearest SSH server above a process. Fail if there is none.
ssh_server_of() {
    above=$1
    until grep -qs '^sshd' "/proc/$above/comm"; do
        above=$(awk '/^PPid:/ { print $2 }' "/proc/$above/status" 2>/dev/null)
        [ "${above:-0}" -gt 1 ] || return 1
    done
    echo "$above"
}

own=$(ssh_server_of $$) || { echo "No SSH server runs this script." >&2; exit 1; }
ended=
for holder in $(pgrep -f '^bash.*vpmem-leases'); do
    server=$(ssh_server_of "$holder") || continue
    [ "$server" != "$own" ] || continue
    case " $ended " in *" $server "*) continue ;; esac
    kill "$server" || continue
    ended="$ended $server"
done
if [ "$1" = other ] && [ -z "$ended" ]; then
    echo "No other connection to this host keeps leases: none was ended." >&2
    exit 1
fi
for server in $ended; do
    tries=0
    while [ -e "/proc/$server" ]; do
        tries=$((tries + 1))
        [ "$tries" -le 100 ] || { echo "SSH server $server has not ended within 10 s." >&2; exit 1; }
        sleep 0.1
    done
    echo "$server"
done
if [ "$1" = all ]; then
    kill "$own"
    sleep 5
fi
