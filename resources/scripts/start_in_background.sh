#!/bin/sh
# Start a command that continues after this script, and print its process id: start_in_background.sh OUTPUT COMMAND...
# OUTPUT is the file for all output of the command.
output=$1
shift
"$@" >"$output" 2>&1 </dev/null &
echo $!
