*** Settings ***
Documentation     A host that others use too. The suite covers a run that sleeps, a full disk, a clock that jumps, a
...               libvirt that hangs, and a local user without privileges. Nothing is lost, nothing foreign changes, and
...               each keyword ends within its deadline.
...
...               The other run is a separate process of robot.

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
A Run That Slept Does Not Change Foreign Objects
    [Documentation]    The connection of the other run ends while it sleeps, and its namespaces are reclaimed. This run
    ...    then creates namespaces, which get the same device names. The other run wakes up, its changes are refused,
    ...    and no byte changes.
    [Tags]    rc-02    ow-01
    Start A Run That Sleeps
    ${theirs} =    Get Names Of Devices    slept_1    slept_2
    Put The Run To Sleep And End Its Connection
    Clean Up After Dead Runs
    ${ours} =    Make Two Namespaces With Content
    Should Not Be Empty    ${{set($ours) & set($theirs)}}    No device name was used again.
    ${acts} =    Wake The Run And Get What It Did
    Should Match Regexp    ${acts}    (?s)\\AFAIL: .*lease.*\\nFAIL: No namespace .*\\nFAIL: No namespace .*\\Z
    Pattern Should Be Intact    mine_1    seed=mine 1    length=16MiB
    Pattern Should Be Intact    mine_2    seed=mine 2    length=16MiB

A Run That Only Waits Keeps Its Namespaces
    [Documentation]    The same run without a lost connection makes all its changes. So the refusals of the test above
    ...    have no other cause.
    [Tags]    rc-02    ow-01
    Start A Run That Sleeps
    Reclaim Should Find Nothing
    ${acts} =    Wake The Run And Get What It Did
    Should Match Regexp    ${acts}    (?s)\\APASS: .*\\nPASS: .*\\nPASS: .*\\Z

A Full Disk Does Not Harm Any Run
    [Documentation]    The file system of the lease records is full. A new lease is refused with the reason, nothing is
    ...    reclaimed, and the living run continues.
    [Tags]    rc-02    ow-01
    [Setup]    Skip Unless The Host May Be Disturbed
    Start A Run That Sleeps
    Offer A Namespace
    Fill The Disk
    Run Keyword And Expect Error    *no space left*    Clean Up After Dead Runs
    Run Keyword And Expect Error    *no space left*    Claim Namespaces    name=to_claim
    Run On Host    rm    ${FILLER}
    Reclaim Should Find Nothing
    Claim And Release The Namespace
    ${acts} =    Wake The Run And Get What It Did
    Should Match Regexp    ${acts}    (?s)\\APASS: .*\\nPASS: .*\\nPASS: .*\\Z

A Clock That Jumps Does Not End A Run
    [Documentation]    The clock jumps two hours forward and then two hours back, while another run has namespaces.
    [Tags]    rc-02    ow-01
    [Setup]    Skip Unless The Host May Be Disturbed
    Start A Run That Sleeps
    Set The Clock    + 7200
    Reclaim Should Find Nothing
    Set The Clock    - 7200
    Reclaim Should Find Nothing
    Set The Clock    + 0
    ${acts} =    Wake The Run And Get What It Did
    Should Match Regexp    ${acts}    (?s)\\APASS: .*\\nPASS: .*\\nPASS: .*\\Z

A Local User Can Neither Block Nor Deceive A Run
    [Documentation]    A user without privileges locks files that everybody may open, opens files that are named like
    ...    the devices, and creates files in directories that the suites check. A namespace is disabled, wiped and
    ...    destroyed meanwhile.
    [Tags]    ow-01
    ${namespace} =    Create Namespace    ${REGION}    mode=devdax    size=at least 32MiB    name=mine
    Let Anybody Get In The Way    ${namespace.chardev}
    Disable Namespace    ${namespace}
    Enable Namespace    ${namespace}
    Wipe Content    ${namespace}
    Destroy Namespace    ${namespace}
    Reclaim Should Find Nothing
    Host State Should Be Unchanged

Keywords End At Their Deadline If libvirt Hangs
    [Documentation]    The daemon accepts connections but does not answer. Afterwards it works as before.
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
    [Documentation]    Take a host, and select a region with room.
    Take A Host
    ${region} =    Get Region With Largest Free Extent    at_least=128MiB
    VAR    ${REGION} =    ${region.dev}    scope=SUITE

Start A Run That Sleeps
    [Documentation]    Start the other run, and return when it has its namespaces.
    OperatingSystem.Remove Directory    ${MEETING}    recursive=True
    OperatingSystem.Create Directory    ${MEETING}
    ${aliases} =    Get Open Hosts
    Process.Start Process    ${{sys.executable}}    -m    robot    --outputdir    ${MEETING}
    ...    --variable    HOSTS:${HOSTS}    --variable    HOST:${aliases}[0]    --variable    REGION:${REGION}
    ...    --variable    MEETING:${MEETING}    ${CURDIR}/../resources/workers/sleep_and_go_on.robot
    ...    alias=sleeper    env:VPMEM_RUN_ID=${EMPTY}    stdout=${OUTPUT_DIR}/sleeper.txt    stderr=STDOUT
    OperatingSystem.Wait Until Created    ${MEETING}/at-asleep    timeout=4 minutes

Make Two Namespaces With Content
    [Documentation]    Create two namespaces with content, and return their device names.
    FOR    ${number}    IN    1    2
        ${namespace} =    Create Namespace    ${REGION}    mode=devdax    size=at least 32MiB    name=mine_${number}
        Write Pattern    ${namespace}    seed=mine ${number}    length=16MiB
    END
    ${devices} =    Get Names Of Devices    mine_1    mine_2
    RETURN    ${devices}

Put The Run To Sleep And End Its Connection
    [Documentation]    Pause the run and end its connection, as when a laptop sleeps. The host then notices that the run
    ...    is gone.
    Process.Send Signal To Process    SIGSTOP    sleeper    group=True
    End The Connections Of Other Runs

Wake The Run And Get What It Did
    [Documentation]    Continue the run, and return the result of each of its changes.
    OperatingSystem.Create File    ${MEETING}/go-on
    Process.Send Signal To Process    SIGCONT    sleeper    group=True
    Process.Wait For Process    sleeper    timeout=5 minutes    on_timeout=kill
    ${acts} =    OperatingSystem.Get File    ${MEETING}/acts
    RETURN    ${acts}

Get Names Of Devices
    [Documentation]    Return the device names of the namespaces, in the same order.
    [Arguments]    @{names}
    VAR    @{devices} =    @{EMPTY}
    FOR    ${name}    IN    @{names}
        ${namespace} =    Get Namespace    ${name}
        Collections.Append To List    ${devices}    ${namespace.dev}
    END
    RETURN    ${devices}

Reclaim Should Find Nothing
    [Documentation]    Fail unless every run with a mark on the host is alive.
    ${taken} =    Clean Up After Dead Runs
    Should Be Empty    ${taken}

Skip Unless The Host May Be Disturbed
    [Documentation]    Skip unless the hosts file allows a reboot of the host. Without that permission, other users may
    ...    need the host.
    ${aliases} =    Get Open Hosts
    ${entry} =    Get Host Entry    ${HOSTS}    ${aliases}[0]
    Skip If    not $entry.may_reboot    ${entry.name} may not be disturbed: say host_may_reboot in its section.

Fill The Disk
    [Documentation]    Fill the disk to the last block, including the blocks reserved for root, so that no file can be
    ...    written.
    VAR    ${script} =    size=0; step=$((1 << 40)); while [ $step -ge 4096 ]; do
    ...    if fallocate -l $((size + step)) "$1" 2>/dev/null; then size=$((size + step)); else step=$((step / 2)); fi;
    ...    done; head -c 64K /dev/zero 2>/dev/null >"$1.more"; full=$?; rm "$1.more"; [ $full -ne 0 ]
    Run On Host    sh    -c    ${script}    sh    ${FILLER}

Offer A Namespace
    [Documentation]    Create a namespace that may be claimed.
    Create Namespace    ${REGION}    mode=devdax    size=at least 32MiB    name=to_claim
    Set Pmem Namespaces    SMALL:to_claim

Claim And Release The Namespace
    [Documentation]    Claim and release the namespace. Only the full disk prevented this before.
    ${claims} =    Claim Namespaces    name=to_claim
    Release Claims    @{claims}    wipe=False

Set The Clock
    [Documentation]    Set the clock this number of seconds from the right time. Keep the right time as the boot time
    ...    until the test ends.
    [Arguments]    ${by}
    VAR    ${script} =    up=$(cut -d. -f1 /proc/uptime); [ -e "$1" ] || echo $(($(date +%s) - up)) >"$1";
    ...    date -s "@$(($(cat "$1") + up ${by}))"
    Run On Host    sh    -c    ${script}    sh    ${BOOTED}

Let Anybody Get In The Way
    [Documentation]    Start processes and create files of a user without privileges, until the test ends.
    [Arguments]    ${device}
    VAR    ${script} =
    ...    mkdir -p ${PLAYGROUND} && chmod 777 ${PLAYGROUND} && cd ${PLAYGROUND} &&
    ...    ${ANYBODY} sh -c 'touch "$1" /tmp/tmp.anybody /dev/shm/anybody && exec 8<>"$1" &&
    ...    exec 9<"/sys/bus/nd/devices/$2" && flock 9 && touch locked && exec sleep 600' sh "$1" "$2"
    ...    </dev/null >/dev/null 2>&1 & until [ -e ${PLAYGROUND}/locked ]; do sleep 0.1; done
    Run On Host    timeout    30    sh    -c    ${script}    sh    ${device}    ${REGION}

End The Connections Of Other Runs
    [Documentation]    End each connection on the host that has leases, except this worker's own connection.
    VAR    ${script} =    own=$$; up() { p=$1; until grep -q ^sshd /proc/$p/comm; do
    ...    p=$(awk '{ print $4 }' /proc/$p/stat); done; echo $p; }; me=$(up $$);
    ...    for holder in $(pgrep -f "^bash.*vpmem-leases"); do it=$(up $holder); [ $it = $me ] || kill $it; done
    Run On Host    bash    -c    ${script}

Stop Libvirt's Daemon
    [Documentation]    Pause the daemon by SIGSTOP: it exists but does nothing.
    Run On Host    pkill    -STOP    -x    libvirtd

Let Libvirt's Daemon Go On
    [Documentation]    Continue the daemon. Do nothing if it runs.
    Run On Host    pkill    -CONT    -x    libvirtd

End What The Test Began
    [Documentation]    Remove all processes, files and leftovers of the other run.
    Let Libvirt's Daemon Go On
    Process.Terminate All Processes    kill=True
    VAR    ${script} =    [ ! -e ${BOOTED} ] || date -s "@$(($(cat ${BOOTED}) + $(cut -d. -f1 /proc/uptime)))";
    ...    rm -f ${BOOTED} ${FILLER} /tmp/tmp.anybody /dev/shm/anybody; pkill -u 65534 -x sleep;
    ...    rm -rf ${PLAYGROUND}; true
    Run On Host    sh    -c    ${script}
    Clean Up After Dead Runs
    Clean Up Host
