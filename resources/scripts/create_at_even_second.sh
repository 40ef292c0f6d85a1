#!/bin/sh
# Run a command. A command that creates a namespace starts at an even second of the clock: create_at_even_second.sh COMMAND...
case "$*" in
    *create-namespace*) until [ $(($(date +%s) % 2)) -eq 0 ]; do sleep 0.02; done ;;
esac
exec "$@"
