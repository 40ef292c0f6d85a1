# shellcheck shell=sh
# Run one command that makes a change. Run it only if its target is still the device that the caller means.
#
#   sh guard [-l FILE TEXT]... [-r REGION] [-n NAMESPACE] [-d DIMM] [-p PATH] [-k LOCK] [-u] -- COMMAND [ARGUMENT]...
#
# -l  A lease of the caller. The record FILE must contain TEXT, otherwise another worker has the lease.
# -r  A region: the cookie of its interleave set, or its name.
# -d  A DIMM: its unique id, or its name.
#     If -r and -d are given, the region must be on the DIMM. The region's cookie changes with its labels, and its
#     name changes with a boot.
# -n  A namespace: the UUID of its label, or its name if it has no label.
# -p  A block device, device-DAX node or file.
# -k  The name of the lock to take if there is no region or DIMM.
# -u  The target must be unused: no process, mount, swap space, other block device or system RAM uses it.
#
# Everything happens in this one process, under the lock of the region. No reboot, lost connection or other worker can
# come between the checks and the command. The command inherits the lock, so the lock lasts as long as the command,
# even if the connection breaks. @region@, @namespace@, @dimm@ and @node@ in the command are replaced by the current
# names. A refusal is a line "vpmem-guard: ..." on stderr and the exit status 113, which no ndctl tool uses.
#
# The program is POSIX sh (dash, bash, busybox), because Python is missing in many guests and on minimal hosts. The
# tests set VPMEM_SYS, VPMEM_PROC and VPMEM_RUN. Other callers leave these variables unset.

set -u
export LC_ALL=C
umask 077

sys=${VPMEM_SYS:-/sys}
proc=${VPMEM_PROC:-/proc}
run=${VPMEM_RUN:-/run/vpmem}
bus=$sys/bus/nd/devices
newline='
'
region='' namespace='' dimm='' node='' unused='' leases='' numbers='' format='%f:%t:%T' given=' '
regions='' locks=''
want_region='' want_namespace='' want_dimm='' want_path='' want_lock='' users=''

report() { printf 'vpmem-guard: %s\n' "$*" >&2; }
refuse() {
    report "$@"
    exit 113
}

# Set `text` to the first line of a file. Fail if the file is unreadable.
first_line() { text='' && [ -r "$1" ] && { IFS= read -r text <"$1" || [ -n "$text" ]; }; }

# Set `found` to the only device of a kind whose attribute has a value.
find_by() { # glob, attribute, value, what
    found=''
    for each in "$bus"/$1; do
        first_line "$each/$2" || continue
        [ "$text" = "$3" ] || continue
        [ -z "$found" ] || refuse "ambiguous $4 $3: ${found##*/} and ${each##*/}"
        found=${each##*/}
    done
    [ -n "$found" ] || refuse "gone $4 $3"
}

find_region() {
    case $want_region in
    region*) region=$want_region ;;
    *) find_by 'region*' set_cookie "$want_region" region && region=$found ;;
    esac
    [ -e "$bus/$region" ] || refuse "gone region $want_region"
}

find_namespace() {
    case $want_namespace in
    namespace*) namespace=$want_namespace ;;
    *) find_by 'namespace*' uuid "$want_namespace" namespace && namespace=$found ;;
    esac
    [ -e "$bus/$namespace" ] || refuse "gone namespace $want_namespace"
    region=${namespace#namespace}
    region=region${region%%.*}
}

find_dimm() {
    case $want_dimm in
    nmem*) dimm=$want_dimm ;;
    *)
        found=''
        for group in nfit cxl papr; do
            for each in "$bus"/nmem*; do
                first_line "$each/$group/id" && [ "$text" = "$want_dimm" ] || continue
                [ -z "$found" ] || refuse "ambiguous dimm $want_dimm: $found and ${each##*/}"
                found=${each##*/}
            done
        done
        dimm=$found
        ;;
    esac
    [ -n "$dimm" ] && [ -e "$bus/$dimm" ] || refuse "gone dimm $want_dimm"
}

require_region_on_dimm() {
    for each in "$bus/$region"/mapping[0-9]*; do
        if first_line "$each" && [ "${text%%,*}" = "$dimm" ]; then return; fi
    done
    refuse "gone region $want_region on dimm $want_dimm"
}

needs() {
    for tool in "$@"; do
        command -v "$tool" >/dev/null || refuse "has no $tool"
    done
}

# Set `regions` to the regions on a DIMM.
find_regions_on() { # dimm
    regions=''
    for each in "$bus"/region*/mapping[0-9]*; do
        first_line "$each" || continue
        each=${each%/*}
        case $text in "$1",*) regions="$regions ${each##*/}" ;; esac
    done
}

# Find the targets. Set `locks` to their regions: the region that was given, and the regions on the DIMM. All commands
# take several locks in the same order.
find_all() {
    [ -z "$want_dimm" ] || find_dimm
    [ -z "$want_region" ] || find_region
    [ -z "$want_namespace" ] || find_namespace
    [ -z "$want_region" ] || [ -z "$want_dimm" ] || require_region_on_dimm
    [ -z "$dimm" ] || find_regions_on "$dimm"
    # shellcheck disable=SC2086  # each is a word
    locks=$(printf '%s\n' $region $regions | sort -u)
    locks=${locks:-${dimm:-$want_lock}}
}

# Take a lock. Keep it while the command runs.
lock() { # name, file descriptor
    # Without "command", a failed redirection of exec ends the shell with the status of a missing program.
    eval "command exec $2>\"\$run/locks/\$1\"" || refuse "unsafe $run/locks/$1: it cannot be written"
    flock -n "$2" && return
    report "waits for the lock of $1"
    flock "$2" || refuse "nolock $1"
    report "has the lock of $1"
}

lock_all() {
    needs flock stat
    [ -d "$run/locks" ] || mkdir -p -- "$run/locks" || refuse "unsafe $run: it cannot be created"
    for each in "$run" "$run/locks"; do
        # shellcheck disable=SC3067  # dash, bash and busybox all have -O
        [ -O "$each" ] && case $(stat -c %A -- "$each") in d????-??-*) continue ;; esac
        refuse "unsafe $each: it must be a directory of the user that runs this, that no other user can write to"
    done
    descriptor=9
    for each in $locks; do
        [ "$descriptor" -gt 2 ] || refuse "too many regions: $locks"
        lock "$each" "$descriptor"
        descriptor=$((descriptor - 1))
    done
}

# Set `key` to the output of stat in `format`. The key of a block device is b and its number in hexadecimal. The key of
# a character device is c and its number, because both kinds have their own numbers. The key of a file is f with its
# file system and inode.
set_key() { # path
    key=$(stat -L -c "$format" -- "$1" 2>/dev/null)
    case $key in
    6???:*) key=b${key#*:} ;;
    2???:*) key=c${key#*:} ;;
    esac
}

# Add a device by its directory in sysfs. Add everything in the kernel that uses the device.
look_at_device() { # directory, b or c
    first_line "$1/dev" || return 0
    numbers="$numbers $2$(printf '%x:%x' "${text%:*}" "${text#*:}")"
    for part in "$1"/*/partition; do
        [ ! -e "$part" ] || look_at_device "${part%/partition}" b
    done
    for holder in "$1"/holders/*; do
        [ ! -e "$holder" ] || users="${users}block device ${holder##*/} on it$newline"
    done
    for member in "$sys"/fs/btrfs/*/devices/*; do
        [ ! "$member" -ef "$1" ] || users="${users}a mounted btrfs file system$newline"
    done
    if [ "$1/driver" -ef "$sys/bus/dax/drivers/kmem" ]; then
        users="${users}the host itself as system RAM$newline"
    fi
}

# Add a namespace's device. Set `node` to the device's path.
look_at_namespace() {
    first_line "$bus/$1/holder" || text=''
    inside=$bus/${text:-$1}
    for device in "$inside"/block/* "$inside"/dax[0-9]*.[0-9]* "$inside"/dax/*; do
        [ -e "$device/dev" ] || continue
        node=/dev/${device##*/}
        case $device in
        */block/*) look_at_device "$device" b ;;
        *) look_at_device "$device" c ;;
        esac
    done
}

look_at_region() {
    for each in "$bus"/namespace"${1#region}".*; do
        [ ! -e "$each" ] || look_at_namespace "${each##*/}"
    done
}

# Print the key and path of every device or file that a process has open or mapped. Mappings are read from the kernel's
# link to the mapped file, because a process may see the device under any name: libvirt gives QEMU its own /dev. A
# private mapping counts only if its file is in memory (major number 0), like all of /dev. This leaves out libraries.
used_files() {
    printf '%s\0' "$proc"/[0-9]*/fd/* | xargs -0 stat -L -c "$format %n" 2>/dev/null
    grep -sE '^[0-9a-f]+-[0-9a-f]+ (...s|.... [0-9a-f]+ 00:[0-9a-f]+ [1-9])|/(dax|pmem)[0-9.]+s?( \(deleted\))?$' \
        "$proc"/[0-9]*/maps /dev/null |
        sed -nE 's|/maps:0*([0-9a-f]+)-0*([0-9a-f]+) .* [1-9][0-9]* +/.*|/map_files/\1-\2|p' |
        xargs -r stat -L -c "$format %n" 2>/dev/null
}

add_processes() {
    set -- "$proc/$$/map_files"/*
    [ -e "$1" ] || refuse "blind: mappings of other processes cannot be read; root with CAP_SYS_ADMIN can"
    pids=$(used_files | awk -v wanted="$numbers " -v skip="$proc/" '
        { key = $1; sub(/^6...:/, "b", key); sub(/^2...:/, "c", key) }
        index(wanted, " " key " ") { pid = substr($2, length(skip) + 1); sub("/.*", "", pid); print pid }' | sort -un)
    for pid in $pids; do
        [ -d "$proc/$pid" ] || continue  # the process has ended
        first_line "$proc/$pid/comm" || text='?'
        users="${users}process $pid ($text)$newline"
    done
}

# Add the mounts of all mount namespaces that have a process. The host's own table does not list a container's mounts.
add_mounts() {
    wanted=''
    for number in $numbers; do
        case $number in
        b*)
            number=${number#b}
            wanted="$wanted $((0x${number%:*})):$((0x${number#*:}))"
            ;;
        esac
    done
    found=$(cat "$proc"/self/mountinfo "$proc"/[0-9]*/mountinfo 2>/dev/null |
        awk -v wanted="$wanted " 'index(wanted, " " $3 " ") && !told[$5]++ { print "mounted at " $5 }')
    users=$users${found:+$found$newline}
}

# Add swap spaces and loop devices. No process has their backing open, and the kernel lists the backing by its path.
add_swaps_and_loops() {
    while read -r path _; do
        is_on "$path" && users="${users}swap space $path$newline"
    done <"$proc/swaps"
    for each in "$sys"/block/loop*/loop/backing_file; do
        first_line "$each" || continue
        is_on "$text" || continue
        each=${each%/loop/backing_file}
        users="${users}block device ${each##*/} on it$newline"
    done
}

is_on() { # path
    case $1 in /*) set_key "$1" ;; *) return 1 ;; esac
    case "$numbers " in *" $key "*) ;; *) return 1 ;; esac
}

refuse_used() {
    needs stat awk grep sed xargs sort tr
    if [ -n "$namespace" ]; then
        look_at_namespace "$namespace"
    elif [ -n "$want_path" ]; then
        look_at_path
    elif [ -n "$region" ]; then
        look_at_region "$region"
    elif [ -n "$dimm" ]; then
        for name in $regions; do look_at_region "$name"; done
    else
        refuse "was given -u and no target"
    fi
    if [ -n "$numbers" ]; then
        add_processes
        add_mounts
        add_swaps_and_loops
    fi
    [ -n "$users" ] || return 0
    # The names come from other users and may contain control characters for the terminal.
    printf '%s' "$users" | tr '\001-\011\013-\037\177' '?' | while IFS= read -r user; do report "used $user"; done
    exit 113
}

look_at_path() {
    if [ -b "$want_path" ] || [ -c "$want_path" ]; then
        set_key "$want_path"
        number=${key#?}
        number=$((0x${number%:*})):$((0x${number#*:}))
        case $key in
        b*) look_at_device "$sys/dev/block/$number" b ;;
        *) look_at_device "$sys/dev/char/$number" c ;;
        esac
        numbers="$numbers $key"  # sysfs has no directory for some devices
    elif [ -f "$want_path" ]; then
        format='f%d:%i'
        set_key "$want_path"
        numbers=" $key"
    else
        refuse "gone path $want_path"
    fi
}

while [ $# -gt 0 ]; do
    case $1 in
    -[lrndpk]) [ -n "${2-}" ] || refuse "was given nothing for $1" ;;
    esac
    case $1$given in
    -l*) [ -n "${3-}" ] || refuse "was given no text for $2" ;;
    "$1"*" $1 "*) refuse "was given $1 twice" ;;
    esac
    given="$given$1 "
    case $1 in
    -l) leases="$leases$2$newline$3$newline" && shift 2 ;;
    -r) want_region=$2 && shift ;;
    -n) want_namespace=$2 && shift ;;
    -d) want_dimm=$2 && shift ;;
    -p) want_path=$2 && shift ;;
    -k) want_lock=$2 && shift ;;
    -u) unused=1 ;;
    --) shift && break ;;
    *) refuse "does not know $1" ;;
    esac
    shift
done

find_all
if [ -n "$locks" ]; then
    locked=$locks
    lock_all
    # Another device may have this name since the search before the lock. Therefore search again.
    find_all
    [ "$locks" = "$locked" ] || refuse "gone from $locked: it belongs to $locks now"
fi

while IFS= read -r record && IFS= read -r wanted; do
    first_line "$record" || text=''
    case $text in
    *"$wanted"*) ;;
    *) refuse "lost $record" ;;
    esac
done <<LEASES
${leases%"$newline"}
LEASES

[ -z "$unused" ] || refuse_used
node=$want_path
[ -z "$namespace" ] || look_at_namespace "$namespace"
# Replace the placeholders by the current names. Each finished argument moves to the end of the argument list.
count=$#
while [ "$count" -gt 0 ]; do
    argument=$1
    for pair in "@region@=$region" "@namespace@=$namespace" "@dimm@=$dimm" "@node@=$node"; do
        mark=${pair%%=*}
        done=''
        while :; do
            case $argument in
            *"$mark"*)
                [ -n "${pair#*=}" ] || refuse "absent $mark: there is no such name or device node"
                done=$done${argument%%"$mark"*}${pair#*=}
                argument=${argument#*"$mark"}
                ;;
            *) break ;;
            esac
        done
        argument=$done$argument
    done
    shift
    set -- "$@" "$argument"
    count=$((count - 1))
done
report "acts on ${region:--} ${namespace:--} ${dimm:--} ${node:--}"
exec "$@"
