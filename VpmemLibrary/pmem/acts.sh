# shellcheck shell=sh
# The changes that need more than one command. The guard (guard.sh) runs each of them as one act, under its lock.
#
#   sh acts destroy NAMESPACE                  Disable a namespace and destroy it. A namespace without a label stays, so
#                                              enable it again: it is bare now.
#   sh acts rename NAMESPACE NAME              Rename a namespace. Disable an active namespace meanwhile.
#   sh acts reconfigure NAMESPACE [OPTION]...  Change the namespace's mode, with options of ndctl create-namespace.
#   sh acts read NAMESPACE OFFSET LENGTH       Print bytes of a disabled namespace, including its info blocks.
#   sh acts write NAMESPACE OFFSET             Write bytes from standard input to a disabled namespace.
#   sh acts close NAMESPACE                    Clean up after a "read" or "write" that was killed.
#   sh acts resize DEVICE BYTES                Change the size of a device-DAX instance of a dynamic region.
#   sh acts remove DEVICE                      Destroy a device-DAX instance of a dynamic region.
#   sh acts take_apart REGION UUID             Destroy a CXL region if it has this UUID and no active namespace.
#   sh acts on_memdevs COUNT [MEMDEV SERIAL]... COMMAND [ARGUMENT]...
#                                              Run a command if CXL memory devices have these serial numbers.
#   sh acts poison inject|clear MEMDEV OFFSET  Poison a cache line of a CXL memory device, or clear its poison.
#   sh acts make_file_system NODE OVERWRITE COMMAND [ARGUMENT]...
#                                              Run mkfs. Refuse if OVERWRITE is empty and the device has content.
#   sh acts mount_at MAKE POINT NODE [OPTION]...
#                                              Mount a block device on a directory. Create the directory if MAKE is not
#                                              empty. Print the device's number, or the problem with the directory.
#   sh acts unmount_from NUMBER POINT LISTED REMOVE
#                                              Unmount a directory if the device mounted there has this number. LISTED
#                                              is the directory as the kernel's table writes it. Remove the directory
#                                              if REMOVE is not empty.
#   sh acts with_keys MASTER LOAD COMMAND [ARGUMENT]...
#                                              Run a command that sees root's user keyring. Create the key MASTER there
#                                              if it is not empty and absent. Load the passphrase of the DIMM with the
#                                              id LOAD if LOAD is not empty.
#   sh acts keep_passphrase ID COMMAND [ARGUMENT]...
#                                              Run a command. If it removes the stored passphrase of a DIMM, store it
#                                              again.
#   sh acts forget_passphrase ID               Remove the stored passphrase of a DIMM that no longer has it.
#
# A refusal has the guard's format: a line "vpmem-guard: ..." on stderr, and the exit status 113. Like the guard, this
# program is POSIX sh. Only tests set VPMEM_SYS and VPMEM_PROC.

set -u
sys=${VPMEM_SYS:-/sys}
proc=${VPMEM_PROC:-/proc}
bus=$sys/bus/nd/devices
cxl=$sys/bus/cxl/devices
opened=''

refuse() {
    printf 'vpmem-guard: %s\n' "$*" >&2
    exit 113
}

# Set `text` to the first line of a file. Set it to an empty text if there is none.
first_line() {
    text=''
    [ ! -r "$1" ] || IFS= read -r text <"$1" || :
}

# A namespace with an info block is not bound to a driver itself. The driver is bound to the device that the kernel
# creates from the info block.
is_active() {
    first_line "$bus/$1/holder"
    [ -e "$bus/${text:-$1}/driver" ]
}

destroy() {
    ndctl disable-namespace "$1" >&2 && ndctl destroy-namespace "$1" || return
    first_line "$bus/$1/nstype"
    [ "$text" != 4 ] || ndctl enable-namespace "$1" >&2 # ND_DEVICE_NAMESPACE_IO, linux/ndctl.h: it has no label
}

# The kernel accepts a new name while the namespace is disabled (drivers/nvdimm/namespace_devs.c, alt_name_store).
rename() {
    if is_active "$1"; then
        ndctl disable-namespace "$1" >&2 || return
        set_name "$1" "$2"
        renamed=$?
        ndctl enable-namespace "$1" >&2 && return "$renamed"
    else
        set_name "$1" "$2"
    fi
}

set_name() {
    printf '%s\n' "$2" >"$bus/$1/alt_name"
}

reconfigure() {
    namespace=$1
    shift
    was_active=''
    if is_active "$namespace"; then
        was_active=1
        ndctl disable-namespace "$namespace" >&2 || return
    fi
    ndctl create-namespace --no-autolabel --reconfig "$namespace" "$@" && return
    failed=$?
    [ -z "$was_active" ] || ndctl enable-namespace "$namespace" >&2
    return "$failed"
}

# With force_raw, the kernel does not search for an info block (drivers/nvdimm/claim.c). ndctl's check also uses it.
# This program resets force_raw whenever it ends, except after SIGKILL.
open_raw() {
    is_active "$1" && refuse "used it is active"
    opened=$1
    trap 'end_raw $?' EXIT
    trap 'exit 143' HUP INT TERM
    echo 1 >"$bus/$1/force_raw" && ndctl enable-namespace "$1" >&2 || exit
    for node in "$bus/$1"/block/*; do :; done
    node=/dev/${node##*/}
}

end_raw() { # status
    trap '' HUP INT TERM
    close "$opened" || [ "$1" -ne 0 ] || exit
    exit "$1"
}

close() {
    first_line "$bus/$1/force_raw"
    [ "$text" = 1 ] || return 0
    ndctl disable-namespace "$1" >&2
    closed=$?
    echo 0 >"$bus/$1/force_raw" && return "$closed"
}

read_raw() {
    open_raw "$1"
    dd if="$node" bs=4096 skip="$2" count="$3" iflag=skip_bytes,count_bytes status=none
}

write_raw() {
    open_raw "$1"
    dd of="$node" bs=4096 seek="$2" oflag=seek_bytes iflag=fullblock conv=notrunc,fsync status=none
}

resize() {
    idle "$1" daxctl reconfigure-device --size="$2" "$1" && daxctl enable-device "$1" >&2
}

remove() {
    idle "$1" daxctl destroy-device "$1"
}

# Disable a device-DAX instance and run a command on it. Enable the instance again if the command fails.
idle() {
    instance=$1
    shift
    daxctl disable-device "$instance" >&2 || return
    "$@" && return
    failed=$?
    daxctl enable-device "$instance" >&2
    return "$failed"
}

take_apart() {
    first_line "$cxl/$1/uuid"
    [ "$text" = "$2" ] || refuse "gone CXL region $2"
    for each in "$bus/namespace${1#region}".*; do
        if [ -e "$each" ] && is_active "${each##*/}"; then
            first_line "$each/alt_name"
            refuse "used it has the active namespace $text (${each##*/}), which would be destroyed with it"
        fi
    done
    cxl disable-region "$1" >&2 && cxl destroy-region "$1"
}

on_memdevs() {
    left=$1
    shift
    while [ "$left" -gt 0 ]; do
        first_line "$cxl/$1/serial"
        [ "$text" = "$2" ] || refuse "gone CXL memory device $1"
        shift 2
        left=$((left - 1))
    done
    "$@"
}

poison() {
    printf '%s' "$3" >"$sys/kernel/debug/cxl/$2/$1_poison"
}

# With -p, blkid reads the device itself. It exits 2 if it recognizes no content, and 8 if it recognizes several
# contents. For an empty partition it exits 0 and prints no type.
make_file_system() {
    [ -b "$1" ] || refuse "absent block device $1"
    if [ -z "$2" ]; then
        held=$(blkid -p -o value -s TYPE -s PTTYPE "$1")
        case $? in
        0) [ -z "$held" ] || refuse "used it holds $(printf '%s' "$held" | tr '\n' ' ')" ;;
        2) ;;
        8) refuse "used it holds several things" ;;
        *) return 1 ;;
        esac
    fi
    shift 2
    "$@"
}

# A session over SSH does not have root's user keyring. A key may have any content, so it stays on this host.
with_keys() {
    master=$1
    load=$2
    shift 2
    command -v keyctl >/dev/null || { echo "keyctl is not installed" >&2 && return 127; }
    keyctl link @u @s >/dev/null || return
    (umask 077 && mkdir -p /etc/ndctl/keys) || return
    if [ -n "$master" ] && ! keyctl search @u user "$master" >/dev/null 2>&1; then
        head -c 32 /dev/urandom | keyctl padd user "$master" @u >/dev/null || return
    fi
    [ -z "$load" ] || load_passphrase "$load"
    "$@"
}

# ndctl loads a passphrase only if ndctl also stored the master key. A DIMM without its key stays locked.
load_passphrase() {
    ndctl load-keys >&2 || :
    for blob in "/etc/ndctl/keys/nvdimm_$1_"*.blob; do
        [ -e "$blob" ] || continue
        keyctl search @u encrypted "nvdimm:$1" >/dev/null 2>&1 && return
        { printf 'load ' && cat "$blob"; } | keyctl padd encrypted "nvdimm:$1" @u >/dev/null
    done
}

# ndctl 85 removes the stored passphrase and its key when an overwrite starts (keys.c, ndctl_dimm_overwrite_key). Without
# it, a DIMM that keeps its passphrase stays locked after it loses its power. The key is loaded here, because ndctl does
# not use a key that it loads itself (check_dimm_key).
keep_passphrase() {
    id=$1
    shift
    for blob in "/etc/ndctl/keys/nvdimm_${id}_"*.blob; do
        [ ! -e "$blob" ] || ln -f "$blob" "${blob%/*}/kept-${blob##*/}" || return
    done
    "$@"
    status=$?
    for kept in "/etc/ndctl/keys/kept-nvdimm_${id}_"*.blob; do
        [ -e "$kept" ] || continue
        blob=${kept%/*}/${kept##*/kept-}
        [ -e "$blob" ] || ln "$kept" "$blob" || return
        rm "$kept" && load_passphrase "$id"
    done
    return "$status"
}

forget_passphrase() {
    keyctl link @u @s >/dev/null || return
    if key=$(keyctl search @u encrypted "nvdimm:$1" 2>/dev/null); then
        keyctl unlink "$key" @u >/dev/null || return
    fi
    rm -f "/etc/ndctl/keys/nvdimm_$1_"*.blob
}

mount_at() {
    made=$1
    point=$2
    node=$3
    shift 3
    number=$(stat -L -c %t:%T "$node") || return
    if [ -n "$made" ]; then
        mkdir -m 0711 "$point" || return
    elif ! [ -d "$point" ]; then
        echo absent && return 1
    elif [ -n "$(ls -A "$point")" ]; then
        echo full && return 1
    fi
    echo "$((0x${number%:*})):$((0x${number#*:}))"
    mount "$@" "$node" "$point" && return
    failed=$?
    [ -z "$made" ] || rmdir "$point"
    return "$failed"
}

# Only the last mount on a directory is visible there.
unmount_from() {
    there=nothing
    while read -r _ _ number _ at _; do
        [ "$at" != "$3" ] || there=$number
    done <"$proc/self/mountinfo"
    [ "$there" = "$1" ] || refuse "gone $1 at $2: there is $there"
    umount "$2" || return
    [ -z "$4" ] || rmdir "$2"
}

case $1 in
read | write) act=$1_raw && shift && "$act" "$@" ;;
*) "$@" ;;
esac
