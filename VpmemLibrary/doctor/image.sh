# shellcheck shell=sh
# Print the configuration of the QEMU guest agent in a disk image. The image is opened read-only.
#
#   sh -c PROGRAM sh IMAGE FILE...
#
# A NUL ends each item. The first item is the program that read the image, or the reason why no program could read the
# image. The second item has all files, each after a line "== NAME".

export LC_ALL=C
image=$1
shift

say() { printf '%s\0' "$1"; }
by_guestfish() {
    command -v guestfish >/dev/null || return
    # One appliance reads all files. The minus sign makes guestfish continue after an absent file.
    text=$(
        { for file; do printf 'echo "== %s"\n-cat %s\n' "$file" "$file"; done; } |
            LIBGUESTFS_BACKEND=direct guestfish --ro --inspector --add "$image" 2>/dev/null
    ) || return
    say guestfish
    say "$text"
}
# Print the bytes at which a file system of a raw image may begin: byte 0, and the start of each partition.
offsets() {
    echo 0
    sfdisk --dump -- "$image" 2>/dev/null | sed -n 's/.*start= *\([0-9][0-9]*\),.*/\1/p' |
        while read -r start; do echo "$((start * 512))"; done
}
by_debugfs() {
    command -v debugfs >/dev/null || return
    for offset in $(offsets); do
        place=$image
        [ "$offset" = 0 ] || place="$image?offset=$offset"
        debugfs -R 'stat /etc' "$place" 2>/dev/null | grep -q '^Inode:' || continue
        say debugfs
        say "$(for file; do echo "== $file"; debugfs -R "cat $file" "$place" 2>/dev/null; echo; done)"
        return
    done
    return 1
}

if [ ! -e "$image" ]; then
    say absent
elif [ ! -r "$image" ]; then
    say unreadable
elif ! by_debugfs "$@" && ! by_guestfish "$@"; then
    if command -v guestfish >/dev/null; then say refused; else say none; fi
fi
