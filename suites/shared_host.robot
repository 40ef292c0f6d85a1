*** Settings ***
Documentation     A host that others use: what becomes of a run that sleeps, of a full disk, of a clock that jumps, of a
...               libvirt that stands still, and what a local user without privileges can do. Nothing is lost, nothing
...               of others is touched, and each keyword ends within its deadline.
...
...               The other run is a process of robot of its own.

Library           OperatingSystem
Library           Process
Resource          ../resources/host.resource

Suite Setup       Take A Host With Labels
Suite Teardown    Give The Host Back
Test Teardown     End What The Test Began


*** Variables ***
${MEETING}       ${OUTPUT_DIR}/meeting-of-the-sleeper
${FILLER}        /var/lib/vpmem/filler
${BOOTED}        /run/vpmem-time-of-boot
${ANYBODY}       setpriv --reuid 65534 --regid 65534 --clear-groups
${PLAYGROUND}    /run/vpmem-anybody


*** Test Cases ***
A Run That Slept Touches Nothing Of Others
    [Documentation]    Its connection is ended while it sleeps, and its namespaces are reclaimed. This run then makes
    ...    its own, which get the same device names. The run that wakes up is refused, and no byte changes.
    [Tags]    rc-02    ow-01
    Start A Run That Sleeps
    ${theirs} =    Get Names Of Devices    slept_1    slept_2
    Put The Run To Sleep And End Its Connection
    Reclaim What Dead Runs Left
    ${ours} =    Make Two Namespaces With Content
    Should Not Be Empty    ${{set($ours) & set($theirs)}}    No device name was used again.
    ${acts} =    Wake The Run And Get What It Did
    Should Match Regexp    ${acts}    (?s)\\AFAIL: .*lease.*\\nFAIL: No namespace .*\\nFAIL: No namespace .*\\Z
    Pattern Should Be Intact    mine_1    seed=mine 1    length=16MiB
    Pattern Should Be Intact    mine_2    seed=mine 2    length=16MiB

A Run That Only Waits Keeps What It Has
    [Documentation]    The same run without a lost connection does what it wanted to do: the refusals are no accident.
    [Tags]    rc-02    ow-01
    Start A Run That Sleeps
    Reclaim Should Find Nothing
    ${acts} =    Wake The Run And Get What It Did
    Should Match Regexp    ${acts}    (?s)\\APASS: .*\\nPASS: .*\\nPASS: .*\\Z

A Full Disk Costs Nobody Anything
    [Documentation]    The file system of the leases' records has no room. A new lease is refused with the reason,
    ...    nothing is reclaimed, and the run that lives goes on.
    [Tags]    rc-02    ow-01
    [Setup]    The Host Should Be Ours To Disturb
    Start A Run That Sleeps
    Offer A Namespace
    Fill The Disk
    Run Keyword And Expect Error    *no space left*    Reclaim What Dead Runs Left
    Run Keyword And Expect Error    *no space left*    Claim Namespace    name=to_claim
    Run On Host    rm    ${FILLER}
    Reclaim Should Find Nothing
    Claim And Release The Namespace
    ${acts} =    Wake The Run And Get What It Did
    Should Match Regexp    ${acts}    (?s)\\APASS: .*\\nPASS: .*\\nPASS: .*\\Z

A Clock That Jumps Ends No Run
    [Documentation]    Two hours forth, and then two hours back, while another run has namespaces.
    [Tags]    rc-02    ow-01
    [Setup]    The Host Should Be Ours To Disturb
    Start A Run That Sleeps
    Set The Clock    + 7200
    Reclaim Should Find Nothing
    Set The Clock    - 7200
    Reclaim Should Find Nothing
    Set The Clock    + 0
    ${acts} =    Wake The Run And Get What It Did
    Should Match Regexp    ${acts}    (?s)\\APASS: .*\\nPASS: .*\\nPASS: .*\\Z

A Local User Can Neither Lock Out Nor Fool A Run
    [Documentation]    Somebody without privileges locks what all may open, has files named like the devices open, and
    ...    leaves files where the suites look. A namespace is disabled, wiped and destroyed meanwhile.
    [Tags]    ow-01
    ${namespace} =    Create Namespace    ${REGION}    mode=devdax    size=at least 32MiB    name=mine
    Let Anybody Get In The Way    ${namespace.chardev}
    Disable Namespace    ${namespace}
    Enable Namespace    ${namespace}
    Wipe Content    ${namespace}
    Destroy Namespace    ${namespace}
    Reclaim Should Find Nothing
    Host Should Be As Remembered

A Libvirt That Stands Still Ends Keywords At Their Deadline
    [Documentation]    The daemon accepts connections and answers nothing. Afterwards it is used as before.
    [Tags]    rc-02
    Get Guests
    Stop Libvirt's Daemon
    Set Command Timeout    10 seconds
    Run Keyword And Expect Error    *libvirt*10 s*    Get Guests
    Let Libvirt's Daemon Go On
    Set Command Timeout    60 seconds
    Get Guests


*** Keywords ***
Take A Host With Labels
    [Documentation]    A host, and a region of it with room.
    Take A Host
    ${region} =    Get Roomiest Region    at_least=128MiB
    VAR    ${REGION} =    ${region.dev}    scope=SUITE

Start A Run That Sleeps
    [Documentation]    Returns when it has its namespaces.
    OperatingSystem.Remove Directory    ${MEETING}    recursive=True
    OperatingSystem.Create Directory    ${MEETING}
    ${aliases} =    Get Open Hosts
    Process.Start Process    ${{sys.executable}}    -m    robot    --outputdir    ${MEETING}
    ...    --variable    HOSTS:${HOSTS}    --variable    HOST:${aliases}[0]    --variable    REGION:${REGION}
    ...    --variable    MEETING:${MEETING}    ${CURDIR}/../resources/workers/sleep_and_go_on.robot
    ...    alias=sleeper    env:VPMEM_RUN_ID=${EMPTY}    stdout=${OUTPUT_DIR}/sleeper.txt    stderr=STDOUT
    OperatingSystem.Wait Until Created    ${MEETING}/at-asleep    timeout=4 minutes

Make Two Namespaces With Content
    [Documentation]    Returns their device names.
    FOR    ${number}    IN    1    2
        ${namespace} =    Create Namespace    ${REGION}    mode=devdax    size=at least 32MiB    name=mine_${number}
        Write Pattern    ${namespace}    seed=mine ${number}    length=16MiB
    END
    ${devices} =    Get Names Of Devices    mine_1    mine_2
    RETURN    ${devices}

Put The Run To Sleep And End Its Connection
    [Documentation]    As a laptop whose lid is closed: it runs no more, and the host notices that it is gone.
    Process.Send Signal To Process    SIGSTOP    sleeper    group=True
    End The Connections Of Other Runs

Wake The Run And Get What It Did
    [Documentation]    Lets it go on, and returns the outcome of each of its acts.
    OperatingSystem.Create File    ${MEETING}/go-on
    Process.Send Signal To Process    SIGCONT    sleeper    group=True
    Process.Wait For Process    sleeper    timeout=5 minutes    on_timeout=kill
    ${acts} =    OperatingSystem.Get File    ${MEETING}/acts
    RETURN    ${acts}

Get Names Of Devices
    [Documentation]    Returns the device names of namespaces, in their order.
    [Arguments]    @{names}
    VAR    @{devices} =    @{EMPTY}
    FOR    ${name}    IN    @{names}
        ${namespace} =    Get Namespace    ${name}
        Collections.Append To List    ${devices}    ${namespace.dev}
    END
    RETURN    ${devices}

Reclaim Should Find Nothing
    [Documentation]    Every run with a mark on the host lives.
    ${taken} =    Reclaim What Dead Runs Left
    Should Be Empty    ${taken}

The Host Should Be Ours To Disturb
    [Documentation]    Skips where the hosts file does not say that the host may be rebooted: then others may need it.
    ${aliases} =    Get Open Hosts
    ${entry} =    Get Host Entry    ${HOSTS}    ${aliases}[0]
    Skip If    not $entry.may_reboot    ${entry.name} may not be disturbed: say host_may_reboot in its section.

Fill The Disk
    [Documentation]    To the last block, those that only root may use as well: no other file can be written.
    VAR    ${script} =    size=0; step=$((1 << 40)); while [ $step -ge 4096 ]; do
    ...    if fallocate -l $((size + step)) "$1" 2>/dev/null; then size=$((size + step)); else step=$((step / 2)); fi;
    ...    done; head -c 64K /dev/zero 2>/dev/null >"$1.more"; full=$?; rm "$1.more"; [ $full -ne 0 ]
    Run On Host    sh    -c    ${script}    sh    ${FILLER}

Offer A Namespace
    [Documentation]    Makes one that may be claimed.
    Create Namespace    ${REGION}    mode=devdax    size=at least 32MiB    name=to_claim
    Set Pmem Namespaces    SMALL:to_claim

Claim And Release The Namespace
    [Documentation]    It was refused only for want of space.
    ${claim} =    Claim Namespace    name=to_claim
    Release Claims    ${claim}    wipe=False

Set The Clock
    [Documentation]    By seconds from the right time, which is remembered as the time of the boot until the test ends.
    [Arguments]    ${by}
    VAR    ${script} =    up=$(cut -d. -f1 /proc/uptime); [ -e "$1" ] || echo $(($(date +%s) - up)) >"$1";
    ...    date -s "@$(($(cat "$1") + up ${by}))"
    Run On Host    sh    -c    ${script}    sh    ${BOOTED}

Let Anybody Get In The Way
    [Documentation]    Processes and files of a user without privileges, until the test ends.
    [Arguments]    ${device}
    VAR    ${script} =
    ...    mkdir -p ${PLAYGROUND} && chmod 777 ${PLAYGROUND} && cd ${PLAYGROUND} &&
    ...    ${ANYBODY} sh -c 'touch "$1" /tmp/tmp.anybody /dev/shm/anybody && exec 8<>"$1" &&
    ...    exec 9<"/sys/bus/nd/devices/$2" && flock 9 && touch locked && exec sleep 600' sh "$1" "$2"
    ...    </dev/null >/dev/null 2>&1 & until [ -e ${PLAYGROUND}/locked ]; do sleep 0.1; done
    Run On Host    timeout    30    sh    -c    ${script}    sh    ${device}    ${REGION}

End The Connections Of Other Runs
    [Documentation]    Ends on the host each connection that holds leases but this worker's own.
    VAR    ${script} =    own=$$; up() { p=$1; until grep -q ^sshd /proc/$p/comm; do
    ...    p=$(awk '{ print $4 }' /proc/$p/stat); done; echo $p; }; me=$(up $$);
    ...    for holder in $(pgrep -f "^bash -c.*vpmem-leases"); do it=$(up $holder); [ $it = $me ] || kill $it; done
    Run On Host    bash    -c    ${script}

Stop Libvirt's Daemon
    [Documentation]    SIGSTOP: it is there and does nothing.
    Run On Host    pkill    -STOP    -x    libvirtd

Let Libvirt's Daemon Go On
    [Documentation]    Harmless where it runs.
    Run On Host    pkill    -CONT    -x    libvirtd

End What The Test Began
    [Documentation]    Leaves no process, no file, and nothing of the other run's.
    Let Libvirt's Daemon Go On
    Process.Terminate All Processes    kill=True
    VAR    ${script} =    [ ! -e ${BOOTED} ] || date -s "@$(($(cat ${BOOTED}) + $(cut -d. -f1 /proc/uptime)))";
    ...    rm -f ${BOOTED} ${FILLER} /tmp/tmp.anybody /dev/shm/anybody; pkill -u 65534 -x sleep;
    ...    rm -rf ${PLAYGROUND}; true
    Run On Host    sh    -c    ${script}
    Reclaim What Dead Runs Left
    Clean Up Host
