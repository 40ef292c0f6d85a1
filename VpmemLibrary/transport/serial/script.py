"""The shell script on the guest's side of a serial console. It reads requests line by line.

The script needs a POSIX shell and the tools of coreutils or busybox. This library types the script into an open shell.
"""

from __future__ import annotations

from VpmemLibrary.transport.base import ENVIRONMENT, EXTRA_PATH
from VpmemLibrary.transport.serial.ending import END_FUNCTION

PART = 360
"""Bytes of a result in one line: a multiple of three, so that only the last line needs padding. It is a small number,
because the script sends a damaged line again as a whole."""

FIRST = 100_000
"""The name of the first part. All names have the same number of digits, so that `ls` lists them in order."""

UNASKED = 16
"""The script sends a result of at most this many lines at once, and a longer result on request."""

LEAVE = ": vpmem-quit"
"""A line that ends the script, with any nonce. A shell ignores this line."""

SUM = 8
"""Characters of a checksum in a line. They are enough to find accidental damage, and each byte costs time."""

_SETTING = "; ".join((*(f"export {name}={value}" for name, value in ENVIRONMENT.items()), f'PATH="$PATH:{EXTRA_PATH}"'))

TOOLS = ("base64", "md5sum", "paste", "sed", "wc", "ls", "xargs", "tr", "mkdir", "rm", "cat")
"""The programs that the script runs, besides the built-in commands of the shell."""

# A request is a line ": NONCE LENGTH NUMBER VERB ...". A shell ignores a request that it receives by mistake. An answer
# is a line "@NONCE LENGTH NUMBER WORD ... .". A line of a result is "#NONCE NUMBER CHECKSUM NAME BASE64 ."; see
# frames.py. The library may repeat any request; the script does the work of a request only once. Each byte costs time:
# on an emulated processor, one byte takes a millisecond. So both sides pack data with gzip if the guest has gzip.
#
#   put FILE INDEX DATA     keep line INDEX of a file, answer the index of the next missing line
#   run SCRIPT STDIN [DATA] run the file `script` with the file `stdin`, both identified by their checksums
#   poll                    report whether the command has ended
#   show INDEX ...          send lines of the result again
#   end                     kill the command with all its processes
#   quit                    end the script and return to the shell
#
# The command runs in the background, so that the script can end it without a signal from the terminal. Only a shell
# with a controlling terminal gets such a signal. If a signal ends a command, a shell reports 128 plus the signal's
# number. A command may also exit with such a status. But only after a signal, except SIGINT and SIGPIPE, the shell
# prints a message on standard error ("Terminated").
SCRIPT = rf"""
nonce=$1 dir=$2 next=0 started= job= pack=cat unpack=cat
say() {{ printf '@%s %s %s .\n' "$nonce" "${{#1}}" "$1"; }}
take() {{
    [ "$2" != - ] || {{ : >"$1"; return; }}
    base64 -d <"$1.64" | $unpack >"$1"
    case $(md5sum <"$1") in "$2"*) ;; *) return 1 ;; esac
}}
collect() {{
    read -r status <status
    [ "$status" -gt 128 ] && [ -s note ] && status=$((128 - status))
    {{ printf '%s %s\n' "$status" $(wc -c <out) && cat out err; }} >result || return
    $pack <result | base64 -w {PART * 4 // 3} >lines || return
    rm -rf parts && mkdir parts || return
    part={FIRST}
    while read -r line || [ -n "$line" ]; do
        printf %s "$line" >"parts/$part" || return
        part=$((part + 1))
    done <lines
    (cd parts && ls | xargs md5sum) >sums || return
    frame=$(printf '#%s %06d' "$nonce" "$1")
    paste -d ' ' sums lines | sed 's/^\(.\{{{SUM}\}}\)[^ ]* /\1/; s/^/'"$frame"' /; s/$/ ./' >frames || return
    wc -l <frames >count
}}
run() {{
    {{
        (exec sh -c 'echo "$$" >pid; cd /; {_SETTING}; . "$0"' "$dir/script" <stdin >out 2>err)
        echo "$?" >status
    }} 2>note
    if collect "$1" 2>trouble; then : >trouble; else echo "no room" >>trouble; fi
    : >finished
    report "$1"
    [ -s trouble ] || [ "$count" -gt {UNASKED} ] || {{ cat frames; say "$1 shown"; }}
}}
report() {{
    if [ ! -e finished ]; then say "$1 running"
    elif [ -s trouble ]; then say "$1 failed $(tr -c ' -~' '?' <trouble)"
    else read -r count <count; say "$1 done $count"; fi
}}
{END_FUNCTION.strip()}
cd "$dir" || exit
missing=
for tool in {" ".join(TOOLS)}; do command -v "$tool" >/dev/null || missing="$missing $tool"; done
command -v gzip >/dev/null && pack='gzip -c' unpack='gzip -cd'
if [ -z "$missing" ]; then say "0 ready $pack"; else say "0 lacks$missing"; fi
set -f
while IFS= read -r line; do
    case $line in
    ": $nonce "*) rest=${{line#": $nonce "}} ;;
    "{LEAVE}") break ;;
    *) continue ;;
    esac
    length=${{rest%% *}} text=${{rest#* }}
    [ "${{#text}}" = "$length" ] || continue
    set -- $text
    case $2 in
    put)
        [ "$4" -gt 0 ] || {{ : >"$3.64"; next=0; }}
        [ "$4" != "$next" ] || {{ printf '%s\n' "$5" >>"$3.64"; next=$((next + 1)); }}
        say "$1 $next"
        ;;
    run)
        if [ "$started" = "$1" ]; then
            say "$1 started"
            continue
        fi
        [ -z "$job" ] || wait "$job"
        [ -z "$5" ] || printf '%s\n' "$5" >script.64
        if take script "$3" 2>/dev/null && take stdin "$4" 2>/dev/null; then
            rm -f finished pid count
            started=$1
            run "$1" &
            job=$!
            say "$1 started"
        else
            say "$1 damaged"
        fi
        ;;
    poll) report "$1" ;;
    show)
        number=$1 lines=
        shift 2
        for index; do lines="$lines${{index}}p;"; done
        sed -n "$lines" frames
        say "$number shown"
        ;;
    end) [ -s pid ] && read -r pid <pid && (set +f; end "$pid"); say "$1 ended" ;;
    quit) say "$1 bye"; break ;;
    *) say "$1 ready $pack" ;;
    esac
done
"""
