#!/bin/sh
# An ndctl of version 61, which is too old.
echo 61
