# shellcheck shell=bash
# The lease holder: one process on the host for each worker. It reads requests from its standard input, one request a
# line. It locks a record file for every lease of the worker. The kernel frees the locks when the process ends.
#
#   bash --norc -c PROGRAM vpmem-leases DIRECTORY WHO TOKEN GATE_SECONDS [FILE=DESCRIPTOR ...]
#
#   DIRECTORY     the directory of the record files
#   WHO           the worker, as the first part of a record: run=...&worker=...&controller=... (URL-encoded)
#   TOKEN         a text that only this worker's records contain
#   GATE_SECONDS  how long a request waits for the requests of other holders
#   FILE=...      the locks that this process had before it restarted the program (see `resume`)
#
# An answer ends with a line that has only ".". The answer to a failed request is "error TEXT". Such a request changed
# nothing, and the process keeps every lock. The first answer, before any request, is "ready".
#
# An exclusive lease is the file KEY. A shared lease has one file KEY@TOKEN for each worker that shares it. A file has
# one line:
#
#   WHO&token=TOKEN&fence=NUMBER&since=SECONDS[&kept=FROM-UNTIL|&unfit=REASON]
#
# Every request runs under one lock, the gate. So no file changes while another holder reads it. A file is replaced by
# renaming a new file. The new file is locked before it gets its final name.

LC_ALL=C
umask 077
unset TMOUT # with TMOUT, bash's read stops waiting for a request after that many seconds
ulimit -Sn hard 2>/dev/null # each lease is an open file
directory=$1 who=$2 token=$3 gate_seconds=$4
shift 4
declare -A held=()  # the files that this process has locked, each with its descriptor
declare -A fresh=() # the new files of a request that is not done yet, each with its descriptor
problem='' answer='' busy='' gate='' sync_takes_files=''
readonly SAFE='[A-Za-z0-9._~%+=&-]'
readonly RECORD="^run=$SAFE*&token=$SAFE+&fence=[0-9]{1,18}&since=[0-9]{1,12}(&kept=[0-9]{1,12}-[0-9]{1,12}|&unfit=$SAFE*)?\$"
readonly NAME='^[0-9a-z][0-9a-z-]*(@[0-9A-Za-z._-]+)?$'
readonly DAY=86400

# Errors

fail() {
    problem=$1
    return 1
}
# Fail with the reason of a tool: the part of its message after the last colon.
fail_for() {
    local why=${2##*: }
    fail "$1: ${why:-a tool ended without a message, perhaps by a limit of the user (ulimit -a)}"
}

# Bash ends when it cannot start a process. Then this trap restarts the program in the same process, with the same
# locks. The restarted program answers the request with an error.
resume() {
    local name fd
    local -A keep=()
    local -a pairs=()
    [[ $busy ]] || return
    for name in "${!held[@]}"; do
        keep[${held[$name]}]=1
        pairs+=("$name=${held[$name]}")
    done
    for fd in "/proc/$$/fd/"*; do # close the gate and the new files of the request
        fd=${fd##*/}
        ((fd < 10)) || [[ ${keep[$fd]+x} ]] || exec {fd}>&-
    done
    exec -a bash "$BASH" --norc -c "$BASH_EXECUTION_STRING" vpmem-leases "$directory" "$who" "$token" "$gate_seconds" \
        resumed "${pairs[@]}"
}
trap resume EXIT
trap 'busy=; exit 1' HUP INT TERM PIPE

# Locks

open_file() {
    { exec {fd}<>"$1" || exec {fd}<"$1"; } 2>/dev/null || fail "$directory/$1 cannot be opened; the holder has $((${#held[@]} + ${#fresh[@]})) leases open (ulimit -n limits them)"
}
close_file() {
    local fd=$1
    exec {fd}>&-
}
# Lock the open descriptor within $1 seconds. Return 1 if another process has the lock.
lock() {
    local status
    local -a patience=(-w "$1")
    (($1 > 0)) || patience=(-n)
    flock -x "${patience[@]}" "$fd" 2>/dev/null
    status=$?
    ((status <= 1)) || fail "flock failed with exit status $status"
    return "$status"
}
enter() {
    local fd
    open_file .gate || return
    gate=$fd
    lock "$gate_seconds" && return
    [[ $problem ]] || fail "another holder has had $directory/.gate locked for $gate_seconds s; fuser -v $directory/.gate shows its process"
    return 1
}
leave() {
    [[ ! $gate ]] || close_file "$gate"
    gate=
}

# Records

# Read the record of a file. The record is empty if the file is absent or has invalid content.
read_record() {
    record=
    { IFS= read -r -n 16384 record <"$1"; } 2>/dev/null
    [[ $record =~ $RECORD ]] || record=
}
# Return whether the lease is kept for its holder while the host boots. If the clock was set back, it is not kept.
is_kept() {
    local now
    [[ $record =~ \&kept=([0-9]+)-([0-9]+)$ ]] || return
    printf -v now '%(%s)T' -1
    ((10#${BASH_REMATCH[1]} <= now && now < 10#${BASH_REMATCH[2]}))
}
is_from_me() { [[ $record == *"&token=$token&"* ]]; }
is_old() {
    local now
    [[ $record =~ \&since=([0-9]+) ]] || return
    printf -v now '%(%s)T' -1
    ((10#${BASH_REMATCH[1]} < now - DAY))
}
# Set `record` to the record of a file, and `state` to its state:
#   held   a process has the file locked
#   kept   the lease is kept for a worker that reboots the host
#   unfit  the lease was released as unfit, and must be fixed before its next use
#   left   the holder died
look() {
    local fd
    read_record "$1"
    if [[ ${held[$1]+x} ]]; then
        state=held
    elif [[ $record == *"&unfit="* ]]; then
        state=unfit
    else
        state=held
        open_file "$1" || return
        if lock 0; then
            state=left
            if is_kept; then state=kept; fi
        fi
        close_file "$fd"
    fi
}
show() { answer+="entry ${1%%@*} $1 $state ${record:--}"$'\n'; }
files_of() {
    local each
    files=()
    for each in "$1" "$1"@*; do
        [[ ! -f $each ]] || files+=("$each")
    done
}
# Show the holders of a key.
show_holders() {
    local each
    files_of "$1"
    for each in "${files[@]}"; do
        look "$each"
        [[ $state == left ]] || show "$each"
    done
}
# Return whether this process still has the lease. Another user may have removed the directory.
is_mine() {
    [[ ${held[$1]+x} && $1 -ef /proc/$$/fd/${held[$1]} ]] || return
    read_record "$1"
    is_from_me
}

# Writing. Write each of `texts` to the file in `names`: write all files in .new, sync them, lock them, then rename
# them. A file that this process already holds stays locked. Each new file is locked and in `fresh` afterwards.
write() {
    local fd why name
    local -a beside=("${names[@]/#/.new/}")
    fresh=()
    if [[ ! $sync_takes_files ]]; then # a sync of coreutils before 8.24 writes all file systems instead
        if [[ $(sync --help 2>&1) == *FILE* ]]; then sync_takes_files=yes; else sync_takes_files=no; fi
    fi
    if why=$(write_beside 2>&1); then
        lock_beside
    else
        fail_for "$directory cannot be written" "$why"
    fi
    if [[ ! $problem ]]; then
        why=$(exec mv -f -- "${beside[@]}" . 2>&1) || fail_for "$directory cannot be written" "$why"
        for name in "${!fresh[@]}"; do
            [[ ${held[$name]+x} && $name -ef /proc/$$/fd/${fresh[$name]} ]] || continue
            close_file "${held[$name]}"
            held[$name]=${fresh[$name]}
            unset "fresh[$name]"
        done
    fi
    [[ $problem ]] || why=$(to_disk . 2>&1) || fail_for "$directory cannot be written" "$why"
    [[ $problem ]] || return 0
    close_fresh
    rm -f -- "${beside[@]}" 2>/dev/null
    return 1
}
write_beside() { # runs in a process of its own
    local place
    for place in "${!names[@]}"; do printf '%s\n' "${texts[place]}" >"${beside[place]}" || exit; done
    to_disk "${beside[@]}"
}
lock_beside() {
    local name
    for name in "${names[@]}"; do
        [[ $name != .fence ]] || continue
        open_file ".new/$name" || return
        fresh[$name]=$fd
        lock 0 || fail "$directory/.new/$name is locked by another process" || return
    done
}
to_disk() { # runs in a process of its own
    if [[ $sync_takes_files == yes ]]; then exec sync -- "$@"; else exec sync; fi
}
close_fresh() {
    local fd
    for fd in "${fresh[@]}"; do close_file "$fd"; done
    fresh=()
}
remove() {
    local why
    [[ $# -eq 0 ]] || why=$(exec rm -f -- "$@" 2>&1) || fail_for "$directory cannot be written" "$why"
}

# Requests

# Return whether this worker may take a key, and set two variables. `left` is the record of a dead holder ("-" if the
# record is unreadable, empty if there is no dead holder). `over` lists the files to remove once the key is taken.
is_free() {
    local each others=''
    left='' over=()
    [[ ! ${held[$1]+x} && ! ${held[$1@$token]+x} ]] || return
    files_of "$1"
    for each in "${files[@]}"; do
        look "$each"
        if [[ $state == unfit ]]; then
            return 1
        elif [[ $state == held ]] || { [[ $state == kept ]] && ! is_from_me; }; then
            [[ $2 == shared && $each == *@* ]] || return
            others=yes
        else
            [[ $state == kept || $left ]] || left=${record:--}
            # Another worker that shared the key may only have lost its connection, and may come back.
            [[ $2 == shared && $each == *@* ]] && ! is_old || over+=("$each")
        fi
    done
    [[ ! $others ]] || left=
}
next_fence() {
    fence=0
    if [[ -e .fence ]]; then
        fence=
        { IFS= read -r -n 32 fence <.fence; } 2>/dev/null
        [[ $fence =~ ^[0-9]{1,18}$ ]] || fail "$directory/.fence holds no number; remove it once no lease is held there" || return
    fi
    fence=$((10#$fence + 1))
}
# take alone|shared KEY[,KEY...] ...: take the first free key of each slot. Take all slots or none.
take() {
    local mode=$1 slot key name fence now number=0 found left place
    local -A chosen=()
    local -a keys=() lefts=() names=() texts=() over=() gone=() files=()
    shift
    for slot; do
        found=
        for key in ${slot//,/ }; do
            if [[ ! ${chosen[$key]+x} ]] && is_free "$key" "$mode"; then
                found=$key
                break
            fi
        done
        [[ ! $problem ]] || return
        if [[ ! $found ]]; then
            answer+="none $number"$'\n'
            for key in ${slot//,/ }; do show_holders "$key"; done
            return
        fi
        chosen[$found]=1
        keys+=("$found")
        lefts+=("$left")
        gone+=("${over[@]}")
        number=$((number + 1))
    done
    next_fence || return
    printf -v now '%(%s)T' -1
    names=(.fence)
    texts=("$fence")
    for key in "${keys[@]}"; do
        name=$key
        [[ $mode == alone ]] || name=$key@$token
        names+=("$name")
        texts+=("$who&token=$token&fence=$fence&since=$now")
    done
    write || return
    over=()
    for name in "${gone[@]}"; do [[ ${fresh[$name]+x} ]] || over+=("$name"); done
    if ! remove "${over[@]}"; then # free the new locks; their records say that this worker left the leases
        close_fresh
        return
    fi
    for name in "${!fresh[@]}"; do held[$name]=${fresh[$name]}; done
    for place in "${!keys[@]}"; do answer+="taken ${keys[place]} $fence ${lefts[place]}"$'\n'; done
}
# renew MODE:KEY:FENCE ...: lock the leases of this worker's earlier connection again. A lease is lost if another worker
# took it meanwhile.
renew() {
    local each mode key fence name record fd
    local -a names=() texts=() files=()
    for each; do
        mode=${each%%:*} fence=${each##*:} key=${each#*:}
        key=${key%:*} name=$key
        [[ $mode == alone ]] || name=$key@$token
        read_record "$name"
        if [[ $record != *"&token=$token&fence=$fence&"* || $record == *"&unfit="* ]]; then
            answer+="lost $key"$'\n'
            show_holders "$key"
            continue
        fi
        open_file "$name" || return
        lock 10 || fail "$directory/$name is locked by a command that this worker started earlier and that does not end" || return
        held[$name]=$fd
        if [[ $record == *"&kept="* ]]; then
            names+=("$name")
            texts+=("${record%&kept=*}")
        fi
    done
    [[ ${#names[@]} -eq 0 ]] || write
}
# mine FILE ...: report which leases this worker has lost.
mine() {
    local name
    local -a files=()
    for name; do
        is_mine "$name" && continue
        answer+="lost ${name%%@*}"$'\n'
        show_holders "${name%%@*}"
    done
    [[ ! $answer ]]
}
# keep SECONDS FILE ...: keep leases for this worker for SECONDS. 0 stops keeping them.
keep() {
    local seconds=$1 name now record
    local -a names=() texts=()
    shift
    mine "$@" || return
    printf -v now '%(%s)T' -1
    for name; do
        read_record "$name"
        record=${record%&kept=*}
        ((seconds == 0)) || record+="&kept=$now-$((now + seconds))"
        names+=("$name")
        texts+=("$record")
    done
    write
}
# release FILE ...: release leases and remove their records.
release() {
    mine "$@" && remove "$@" && drop "$@"
}
# drop FILE ...: release the locks, but do not remove the records. A holder that dies leaves the same state.
drop() {
    local name
    for name; do
        [[ ${held[$name]+x} ]] || continue
        close_file "${held[$name]}"
        unset "held[$name]"
    done
}
# release_as_unfit FILE REASON: release a lease and mark it as unfit.
release_as_unfit() {
    local record
    local -a names=("$1") texts=()
    mine "$1" || return
    read_record "$1"
    texts=("${record%&kept=*}&unfit=$2")
    write && drop "$1"
}
# remove_stale KEY ...: remove the records that have no living holder.
remove_stale() {
    local key each
    local -a files=() gone=()
    for key; do
        files_of "$key"
        for each in "${files[@]}"; do
            look "$each"
            [[ $state == held || $state == kept ]] || gone+=("$each")
        done
    done
    [[ $problem ]] || remove "${gone[@]}"
}
# entries: show every record.
entries() {
    local each
    for each in [0-9a-z]*; do
        [[ -f $each && $each =~ $NAME ]] || continue
        look "$each"
        show "$each"
    done
}
serve() {
    problem='' answer=''
    enter || return
    case $1 in
        take | renew | mine | keep | release | drop | release_as_unfit | remove_stale | entries) "$@" ;;
        *) fail "there is no request $1" ;;
    esac
}
reply() {
    local text=$answer
    [[ ! $problem ]] || text="error ${problem//$'\n'/ }"$'\n'
    printf '%s.\n' "$text"
}

# Start

# Return whether only root and this user can change a directory. If $2 is 1, other users may add files if the directory
# has the sticky bit.
is_safe() {
    local why owner mode fix="Leases need a directory that only root may change"
    [[ ! -L $1 ]] || fail "$1 is a symbolic link. $fix" || return
    why=$(exec stat -c '%u %a' -- "$1" 2>&1) || fail_for "$1 cannot be inspected" "$why" || return
    owner=${why% *} mode=${why#* }
    ((owner == 0 || owner == EUID)) || fail "$1 belongs to user $owner. $fix: chown root $1" || return
    ((8#$mode & 8#1000 && $2)) || ! ((8#$mode & 8#22)) || fail "$1 has mode $mode, so others may change it. $fix: chmod 700 $1"
}
# Kill the holders of this worker's earlier connections. The host may not have noticed that those connections broke. An
# old holder must not run a late request, or hold a lease that this holder renews.
end_earlier() {
    local each pid word found tries
    local -a words
    for tries in {1..50}; do
        found=
        for each in /proc/[0-9]*; do
            pid=${each##*/}
            ((pid != $$)) || continue
            words=()
            while IFS= read -r -d '' word; do
                words+=("$word")
                [[ ${words[0]} == bash && ${#words[@]} -lt 8 ]] || break
            done 2>/dev/null <"$each/cmdline"
            [[ ${words[4]} == vpmem-leases && ${words[5]} == "$directory" && ${words[7]} == "$token" ]] || continue
            found=$pid
            kill -KILL "$pid" 2>/dev/null
        done
        [[ $found ]] || return 0
        sleep 0.2
    done
    fail "process $found, which holds the leases of this worker's earlier connection, does not end after $tries tries to kill it"
}
prepare() {
    local why parent=${directory%/*}
    command -v flock >/dev/null || fail "flock is not installed" || return
    why=$(exec mkdir -p -- "$directory" 2>&1) || fail_for "$directory cannot be created" "$why" || return
    is_safe "${parent:-/}" 1 && is_safe "$directory" 0 || return
    cd -- "$directory" || fail "$directory cannot be entered" || return
    [[ -d .new ]] || why=$(exec mkdir -p .new 2>&1) || fail_for "$directory cannot be written" "$why" || return
    end_earlier
}

if [[ $1 == resumed ]]; then
    shift
    for pair; do held[${pair%=*}]=${pair##*=}; done
    problem="the host could not start a process for this request: it has too many processes or too little memory"
    reply || exit
else
    if prepare; then answer=$'ready\n'; fi
    reply && [[ ! $problem ]] || exit 1
fi
while IFS=' ' read -r -a words; do
    busy=yes
    serve "${words[@]}"
    leave
    busy=
    reply || exit
done
