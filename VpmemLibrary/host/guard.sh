# Run one command that changes something, only if its target is still the one that the caller means.
#
#   sh guard [-l FILE TEXT]... [-r REGION] [-n NAMESPACE] [-d DIMM] [-p PATH] [-k LOCK] [-u] -- COMMAND [ARGUMENT]...
#
# -l  A lease of the caller: the record FILE must contain TEXT, else somebody else has the lease.
# -r  A region: the cookie of its interleave set, or its name. -d  A DIMM: its unique id, or its name.
#     With both, the region must lie on the DIMM: its cookie changes with its labels, its name with a boot.
# -n  A namespace: the UUID of its label, or its name where it has no label.
# -p  A block device, device-DAX node or file.
# -k  The lock to take where there is no region or DIMM, by its name.
# -u  Nobody may use the target: no process, mount, swap space, device mapper or system RAM.
#
# All of it happens in this one process, under the lock of the region: the checks and the command cannot be separated
# by a reboot, a lost connection or another worker. The command inherits the lock, so the lock lasts as long as the
# command does, even if the connection breaks. @region@, @namespace@, @dimm@ and @node@ in the command become the names
# of this moment. A refusal is a line "vpmem-guard: ..." on stderr and exit status 113, which no tool of ndctl's has.
#
# It is POSIX sh (dash, bash, busybox), because Python is missing in many guests and on minimal hosts. The tests set
# VPMEM_SYS, VPMEM_PROC and VPMEM_RUN; everybody else leaves them unset.

set -u
export LC_ALL=C
umask 077

sys=${VPMEM_SYS:-/sys}
proc=${VPMEM_PROC:-/proc}
run=${VPMEM_RUN:-/run/vpmem}
bus=$sys/bus/nd/devices
newline='
'
region='' namespace='' dimm='' node='' unused='' leases='' numbers=''
want_region='' want_namespace='' want_dimm='' want_path='' want_lock='' users=''

report() { printf 'vpmem-guard: %s\n' "$*" >&2; }
refuse() {
    report "$@"
    exit 113
}

# Set `text` to the first line of a file; fail if it cannot be read.
first_line() { text='' && [ -r "$1" ] && { IFS= read -r text <"$1" || [ -n "$text" ]; }; }

# Set `found` to the one device of a kind whose attribute has a value.
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
        for group in nfit cxl papr; do
            for each in "$bus"/nmem*; do
                if first_line "$each/$group/id" && [ "$text" = "$want_dimm" ]; then dimm=${each##*/}; fi
            done
        done
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

# Take the lock NAME, and keep it for as long as the command runs.
lock() {
    [ -d "$run/locks" ] || mkdir -p -- "$run/locks" || refuse "unsafe $run: it cannot be made"
    for each in "$run" "$run/locks"; do
        # shellcheck disable=SC3067  # dash, bash and busybox all have -O
        { [ -d "$each" ] && [ ! -L "$each" ] && [ -O "$each" ]; } ||
            refuse "unsafe $each: it must be a directory of the user that runs this, and no link"
    done
    exec 9>"$run/locks/$1" || refuse "unsafe $run/locks/$1"
    if ! flock -n 9; then
        report "waits for the lock of $1"
        flock 9 || refuse "nolock $1"
        report "has the lock of $1"
    fi
}

# Add the device number MAJOR:MINOR in a sysfs attribute to `numbers`, as stat prints it.
add_number() {
    first_line "$1" || return 0
    numbers="$numbers $(printf '%x:%x' "${text%:*}" "${text#*:}")"
}

# Add a namespace's device and all that the kernel has on it; set `node` to the device's path.
look_at_namespace() {
    first_line "$bus/$1/holder" || text=''
    inside=$bus/${text:-$1}
    for each in "$inside"/block/* "$inside"/dax[0-9]*.[0-9]* "$inside"/dax/*; do
        [ -e "$each/dev" ] || continue
        node=/dev/${each##*/}
        add_number "$each/dev"
        for part in "$each/${each##*/}p"*; do
            [ ! -e "$part/dev" ] || add_number "$part/dev"
        done
        for holder in "$each"/holders/* "$each"/*/holders/*; do
            [ ! -e "$holder" ] || users="${users}block device ${holder##*/} on it$newline"
        done
        add_ram "${each##*/}"
    done
}

# Add the host itself as a user of a device-DAX instance that is system RAM.
add_ram() {
    [ ! -e "$sys/bus/dax/drivers/kmem/$1" ] || users="${users}the host itself as system RAM$newline"
}

# Print the number and path of every device that a process has open or mapped. Mappings are looked up by the kernel's
# own link to what is mapped, because a process may see the device by any name: libvirt gives QEMU a /dev of its own.
used_devices() {
    printf '%s\0' "$proc"/[0-9]*/fd/* | xargs -0 stat -L -c "$1 %n" 2>/dev/null
    grep -sE '^[0-9a-f]+-[0-9a-f]+ ...s |/(dax|pmem)[0-9.]+s?( \(deleted\))?$' "$proc"/[0-9]*/maps /dev/null |
        sed -nE 's|/maps:0*([0-9a-f]+)-0*([0-9a-f]+) .* [1-9][0-9]* +/.*|/map_files/\1-\2|p' |
        xargs -r stat -L -c "$1 %n" 2>/dev/null
}

add_users() { # stat format, numbers
    set -- "$1" "$2" "$proc/$$/map_files"/*
    [ -e "$3" ] || refuse "blind: mappings of other processes cannot be read; root with CAP_SYS_ADMIN can"
    pids=$(used_devices "$1" | awk -v wanted="$2 " -v skip="$proc/" '
        index(wanted, " " $1 " ") { pid = substr($2, length(skip) + 1); sub("/.*", "", pid); print pid }' | sort -un)
    for pid in $pids; do
        [ -d "$proc/$pid" ] || continue  # it has ended
        first_line "$proc/$pid/comm" || text='?'
        users="${users}process $pid ($text)$newline"
    done
}

add_mounts() {
    for number in $numbers; do
        decimal=$((0x${number%:*})):$((0x${number#*:}))
        users=$users$(awk -v number="$decimal" '$3 == number && !told[$5]++ { print "mounted at " $5 }' \
            "$proc/self/mountinfo" "$proc/1/mountinfo")
        users=${users:+${users%"$newline"}$newline}
    done
    while read -r path _; do
        case $path in
        /dev/*)
            case "$numbers " in
            *" $(stat -L -c %t:%T "$path") "*) users="${users}swap space $path$newline" ;;
            esac
            ;;
        esac
    done <"$proc/swaps"
}

refuse_used() {
    if [ -n "$namespace" ]; then
        look_at_namespace "$namespace"
    elif [ -n "$node" ]; then
        look_at_path
    else
        for each in "$bus"/namespace"${region#region}".*; do
            [ ! -e "$each" ] || look_at_namespace "${each##*/}"
        done
    fi
    if [ -n "$numbers" ]; then
        add_users %t:%T "$numbers"
        add_mounts
    fi
    [ -n "$users" ] || return 0
    printf '%s' "$users" | while IFS= read -r user; do report "used $user"; done
    exit 113
}

# A file is known by its file system and inode.
look_at_path() {
    if [ -f "$node" ]; then
        add_users %d:%i " $(stat -L -c %d:%i -- "$node")"
    elif [ -b "$node" ] || [ -c "$node" ]; then
        numbers=" $(stat -L -c %t:%T -- "$node")"
        add_ram "${node##*/}"
    else
        refuse "gone path $node"
    fi
}

while [ $# -gt 0 ]; do
    case $1 in
    -[lrndpk]) [ -n "${2-}" ] || refuse "was given nothing for $1" ;;
    esac
    case $1 in
    -l) leases="$leases$2$newline$3$newline" && shift 2 ;;
    -r) want_region=$2 && shift ;;
    -n) want_namespace=$2 && shift ;;
    -d) want_dimm=$2 && shift ;;
    -p) want_path=$2 node=$2 && shift ;;
    -k) want_lock=$2 && shift ;;
    -u) unused=1 ;;
    --) shift && break ;;
    *) refuse "does not know $1" ;;
    esac
    shift
done

for tool in flock stat awk grep sed xargs sort; do
    command -v "$tool" >/dev/null || refuse "has no $tool"
done

[ -z "$want_dimm" ] || find_dimm
[ -z "$want_region" ] || find_region
[ -z "$want_namespace" ] || find_namespace
[ -z "$want_region" ] || [ -z "$want_dimm" ] || require_region_on_dimm
held=${region:-${dimm:-$want_lock}}
[ -z "$held" ] || lock "$held"
# What was found before the lock was taken may be another device by now.
[ -z "$want_namespace" ] || find_namespace

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
[ -n "$want_path" ] || node=''
[ -z "$namespace" ] || look_at_namespace "$namespace"
report "acts on ${region:--} ${namespace:--} ${dimm:--} ${node:--}"

# Put the names of this moment in place of the marks: each argument goes to the end of the list once it is done.
count=$#
while [ "$count" -gt 0 ]; do
    argument=$1
    for pair in "@region@=$region" "@namespace@=$namespace" "@dimm@=$dimm" "@node@=$node"; do
        mark=${pair%%=*}
        done=''
        while :; do
            case $argument in
            *"$mark"*)
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
exec "$@"
