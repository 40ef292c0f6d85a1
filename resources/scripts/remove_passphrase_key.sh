#!/bin/sh
# Remove the key of a DIMM's passphrase from root's keyring: remove_passphrase_key.sh DIMM_ID
set -eu
keyctl link @u @s
keyctl unlink "$(keyctl search @u encrypted "nvdimm:$1")" @u
