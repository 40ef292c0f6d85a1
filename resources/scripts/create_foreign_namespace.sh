#!/bin/sh
# Create a devdax namespace without a mark, as another user of the host would: create_foreign_namespace.sh REGION BYTES NAME
# The script takes the region's lock, as every change of a region that other workers use must.
set -eu
umask 077
mkdir -p /run/vpmem/locks
exec flock "/run/vpmem/locks/$1" \
    ndctl create-namespace --region "$1" --mode devdax --map mem --size "$2" --name "$3" --no-autolabel
