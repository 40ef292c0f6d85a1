#!/bin/sh
# An ndctl that fails with an exit status and an error message.
echo 'the bus is on fire' >&2
exit 6
