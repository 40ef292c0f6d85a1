#!/bin/sh
# Print the command line of the process that runs this script.
tr '\000' ' ' <"/proc/$PPID/cmdline"
