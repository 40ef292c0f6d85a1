# shellcheck shell=sh
# Print the facts of a host that the doctor needs. Change nothing. A fact is a name and a value. Each ends with a NUL.
#
#   sh -c PROGRAM sh RUN_DIRECTORY LEASE_DIRECTORY TOOL...

export LC_ALL=C
run=$1 leases=$2
shift 2

fact() { printf '%s\0' "$1"; shift; "$@" 2>/dev/null; printf '\0'; }
# A program that hangs must not hang the doctor.
limited() { if command -v timeout >/dev/null; then timeout 8 "$@"; else "$@"; fi; }
first() { for program; do command -v "$program" && return; done; }

# Print the directory, or its nearest parent that exists.
nearest() {
    path=$1
    while [ ! -e "$path" ] && [ "$path" != / ]; do path=$(dirname -- "$path"); done
    printf '%s\n' "$path"
}
directory() {
    there=$(nearest "$1")
    [ -w "$there" ] && [ -x "$there" ] && writable=yes || writable=no
    # shellcheck disable=SC3067  # dash, bash and busybox all have -O
    [ -O "$there" ] && owned=yes || owned=no
    set -- "$there" "$writable" "$owned" "$(stat -L -c %A -- "$there")" "$(df -Pk -- "$there" | tail -n 1)"
    printf '%s\n' "$@"
}
leases() {
    for file in "$leases"/*; do
        [ -f "$file" ] || continue
        record=
        IFS= read -r record <"$file"
        printf '%s %s %s\n' "${file##*/}" "$(stat -c %i -- "$file")" "$record"
    done
}
sockets() {
    for socket in /run/libvirt/virtqemud-sock /run/libvirt/libvirt-sock /run/libvirt/virtqemud-sock-ro \
        /run/libvirt/libvirt-sock-ro "/run/user/$(id -u)/libvirt/virtqemud-sock" "/run/user/$(id -u)/libvirt/libvirt-sock"; do
        [ -S "$socket" ] || continue
        [ -r "$socket" ] && [ -w "$socket" ] && echo "$socket open" || echo "$socket closed"
    done
}
relays() {
    command -v virt-ssh-helper >/dev/null && echo virt-ssh-helper
    if command -v nc >/dev/null; then
        limited nc -h 2>&1 </dev/null | grep -q -e '-[[:alnum:]]*U' && echo 'nc -U' || echo 'nc without -U'
    fi
    for relay in ncat socat python3 perl; do
        command -v "$relay" >/dev/null && echo "$relay"
    done
    true
}
qemu() { first "qemu-system-$(uname -m)" qemu-kvm /usr/libexec/qemu-kvm; }
pmem() {
    program=$(qemu) || return
    limited "$program" -object memory-backend-file,help </dev/null 2>&1 | grep -E '^ *[a-z-]+='
}
security() {
    for file in /sys/module/apparmor/parameters/enabled /sys/fs/selinux/enforce; do
        [ -r "$file" ] && printf '%s %s\n' "$file" "$(cat "$file")"
    done
    grep -E '^[[:blank:]]*security_driver[[:blank:]]*=' /etc/libvirt/qemu.conf
    true
}
locks() { awk '$2 == "FLOCK" { split($6, part, ":"); print part[3] }' /proc/locks; }

fact now date +%s
fact uid id -u
fact user id -un
fact groups id -Gn
fact bash bash --version
fact run directory "$run"
fact lease_directory directory "$leases"
fact leases leases
fact locks locks
fact sockets sockets
fact relays relays
fact qemu qemu
fact pmem pmem
fact security security
for tool; do fact "tool $tool" first "$tool"; done
fact end echo end
