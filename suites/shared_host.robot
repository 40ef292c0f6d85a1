*** Settings ***
Documentation     A host that others use too. The suite covers a run that sleeps, a full disk, a clock that jumps, a
...               libvirt that hangs, and a local user without privileges. Nothing is lost, nothing foreign changes, and
...               each keyword ends within its deadline.
...
...               The other run is a separate process of robot.

Library           Collections
Library           OperatingSystem
Library           Process
Resource          ../resources/other_runs.resource

Suite Setup       Take A Host With Labels
Suite Teardown    Give The Host Back
Test Teardown     End What The Test Began


*** Variables ***
${FILLER}        /var/lib/vpmem/filler
${BOOTED}        /run/vpmem-time-of-boot
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
    A Device Name Should Be Used Again    ${ours}    ${theirs}
    ${results} =    Wake The Run And Get Its Results
    All Changes Should Have Been Refused    ${results}
    Pattern Should Be Intact    mine_1    seed=mine 1    length=16MiB
    Pattern Should Be Intact    mine_2    seed=mine 2    length=16MiB

A Run That Only Waits Keeps Its Namespaces
    [Documentation]    The same run without a lost connection makes all its changes. So the refusals of the test above
    ...    have no other cause.
    [Tags]    rc-02    ow-01
    Start A Run That Sleeps
    Clean Up Should Find Nothing
    ${results} =    Wake The Run And Get Its Results
    All Changes Should Have Passed    ${results}

A Full Disk Does Not Harm Any Run
    [Documentation]    The file system of the lease records is full. A new lease is refused with the reason, nothing is
    ...    reclaimed, and the living run continues.
    [Tags]    rc-02    ow-01
    [Setup]    Skip Unless The Host May Be Rebooted
    Start A Run That Sleeps
    Offer A Namespace
    Fill The Disk
    Run Keyword And Expect Error    *no space left*    Clean Up After Dead Runs
    Run Keyword And Expect Error    *no space left*    Claim Namespaces    name=to_claim
    Run On Host    rm    ${FILLER}
    Clean Up Should Find Nothing
    Claim And Release The Namespace
    ${results} =    Wake The Run And Get Its Results
    All Changes Should Have Passed    ${results}

A Clock That Jumps Does Not End A Run
    [Documentation]    The clock jumps two hours forward and then two hours back, while another run has namespaces.
    [Tags]    rc-02    ow-01
    [Setup]    Skip Unless The Host May Be Rebooted
    Start A Run That Sleeps
    Set The Clock    7200
    Clean Up Should Find Nothing
    Set The Clock    -7200
    Clean Up Should Find Nothing
    Set The Clock    0
    ${results} =    Wake The Run And Get Its Results
    All Changes Should Have Passed    ${results}

A Local User Can Neither Block Nor Deceive A Run
    [Documentation]    A user without privileges locks files that everybody may open, opens files that are named like
    ...    the devices, and creates files in directories that the suites check. A namespace is disabled, wiped and
    ...    destroyed meanwhile.
    [Tags]    ow-01
    ${namespace} =    Create Namespace    ${REGION}    mode=${CONTENT_MODE}    size=at least 32MiB    name=mine
    Let A Local User Get In The Way    ${namespace.device}
    Disable Namespace    ${namespace}
    Enable Namespace    ${namespace}
    Wipe Content    ${namespace}
    Destroy Namespace    ${namespace}
    Clean Up Should Find Nothing
    Host State Should Be Unchanged

Keywords End At Their Deadline If libvirt Hangs
    [Documentation]    The daemon accepts connections but does not answer. Afterwards it works as before.
    [Tags]    rc-02
    Get Guests
    Pause Libvirt's Daemon
    Set Command Timeout    10 seconds
    Run Keyword And Expect Error    *libvirt*10 s*    Get Guests
    Continue Libvirt's Daemon
    Set Command Timeout    60 seconds
    Get Guests


*** Keywords ***
Take A Host With Labels
    [Documentation]    Take a host, and select a region with room.
    Take A Host
    Choose A Region    at_least=128MiB

Start A Run That Sleeps
    [Documentation]    Start the other run, and return when it has its namespaces.
    Start Worker Suite    sleep_and_go_on    sleeper    REGION=${REGION}    MODE=${CONTENT_MODE}
    Wait For Worker At    at-asleep

A Device Name Should Be Used Again
    [Documentation]    Fail unless the two lists have a name in common.
    [Arguments]    ${ours}    ${theirs}
    Should Be True    set($ours) & set($theirs)    No device name was used again: ${ours}, ${theirs}.

All Changes Should Have Been Refused
    [Documentation]    Fail unless the first change was refused because of its lease, and the others because the
    ...    namespaces do not exist.
    [Arguments]    ${results}
    Should Match Regexp    ${results}    (?s)\\AFAIL: .*lease.*\\nFAIL: No namespace .*\\nFAIL: No namespace .*\\Z

All Changes Should Have Passed
    [Documentation]    Fail unless all three changes were made.
    [Arguments]    ${results}
    Should Match Regexp    ${results}    (?s)\\APASS: .*\\nPASS: .*\\nPASS: .*\\Z

Make Two Namespaces With Content
    [Documentation]    Create two namespaces with content, and return their device names.
    FOR    ${number}    IN    1    2
        ${namespace} =    Create Namespace
        ...    ${REGION}
        ...    mode=${CONTENT_MODE}
        ...    size=at least 32MiB
        ...    name=mine_${number}
        Write Pattern    ${namespace}    seed=mine ${number}    length=16MiB
    END
    ${devices} =    Get Names Of Devices    mine_1    mine_2
    RETURN    ${devices}

Put The Run To Sleep And End Its Connection
    [Documentation]    Pause the run and end its connection, as when a laptop sleeps. The host then notices that the run
    ...    is gone.
    Process.Send Signal To Process    SIGSTOP    sleeper    group=True
    End The Connections Of Other Runs

Wake The Run And Get Its Results
    [Documentation]    Continue the run, and return the result of each of its changes.
    Let Workers Go On To    go-on
    Process.Send Signal To Process    SIGCONT    sleeper    group=True
    Process.Wait For Process    sleeper    timeout=5 minutes    on_timeout=kill
    ${results} =    OperatingSystem.Get File    ${MEETING}/results
    RETURN    ${results}

Get Names Of Devices
    [Documentation]    Return the device names of the namespaces, in the same order.
    [Arguments]    @{names}
    VAR    @{devices} =    @{EMPTY}
    FOR    ${name}    IN    @{names}
        ${namespace} =    Get Namespace    ${name}
        Collections.Append To List    ${devices}    ${namespace.dev}
    END
    RETURN    ${devices}

Fill The Disk
    [Documentation]    Fill the disk to the last block, including the blocks reserved for root, so that no file can be
    ...    written.
    Run Script On Host    fill_disk.sh    ${FILLER}

Offer A Namespace
    [Documentation]    Create a namespace that may be claimed.
    Create Namespace    ${REGION}    mode=devdax    size=at least 32MiB    name=to_claim
    Set Pmem Namespaces    SMALL:to_claim

Claim And Release The Namespace
    [Documentation]    Claim and release the namespace. Only the full disk prevented this before.
    ${claims} =    Claim Namespaces    name=to_claim
    Release Claims    @{claims}    wipe=False

Set The Clock
    [Documentation]    Set the clock to the right time plus this number of seconds. A file keeps the right time of boot
    ...    until the test ends.
    [Arguments]    ${by}
    Run Script On Host    set_clock.sh    ${BOOTED}    ${by}

Let A Local User Get In The Way
    [Documentation]    Start processes and create files of a user without privileges, until the test ends.
    [Arguments]    ${device}
    Run Script On Host    get_in_the_way.sh    ${PLAYGROUND}    ${device}    ${REGION}

Pause Libvirt's Daemon
    [Documentation]    Pause the daemon by SIGSTOP: it exists but does nothing.
    Run On Host    pkill    -STOP    -x    libvirtd

Continue Libvirt's Daemon
    [Documentation]    Continue the daemon. Do nothing if it runs.
    Run On Host    pkill    -CONT    -x    libvirtd

End What The Test Began
    [Documentation]    Remove all processes, files and leftovers of the other run.
    Continue Libvirt's Daemon
    End The Workers
    Run Script On Host    undo_disturbances.sh    ${BOOTED}    ${FILLER}    ${PLAYGROUND}
    Clean Up After Dead Runs
    Clean Up Host
