*** Settings ***
Documentation     If a run is killed or interrupted, everything that it did not make stays unchanged, and the next run
...               starts clean.
...
...               Other runs are separate processes of robot and pabot. Before and after each run, the suite compares a
...               namespace, a domain and a file that no run made, byte by byte.
...
...               A seed selects the point at which a run is ended: one of its steps, and a moment within it. Here each
...               way to end a run has one point. `make kill-test` has twenty.

Library           Collections
Library           OperatingSystem
Library           Process
Resource          ../resources/other_runs.resource

Suite Setup       Make Foreign Things
Suite Teardown    Remove Foreign Things
Test Teardown     End The Run


*** Variables ***
${POINTS}    1
${SEED}      2
@{STEPS}     namespaces    mount    claim    guest    running    undefine    release


*** Test Cases ***
A Run That Ends Normally Leaves Nothing
    [Documentation]    The run had namespaces, a mount, claims and a guest. Its own check finds no leftovers.
    [Tags]    ow-01    ow-02
    Start A Run
    Worker Should End With    run    0
    Nothing Should Be Left And What Is Foreign Unchanged

The Next Run Starts Clean After Robot Is Killed
    [Documentation]    SIGKILL in the middle of a step. The next run's set-up removes the leftovers.
    [Tags]    ow-01    ow-03    cl-03
    End Runs By    robot    Kill The Run

The Next Run Starts Clean After Pabot Is Killed
    [Documentation]    SIGKILL of pabot and its workers at the same time.
    [Tags]    ow-01    ow-03
    End Runs By    pabot    Kill The Run    runner=${PABOT}

The Next Run Starts Clean After The Connection Is Cut
    [Documentation]    Every connection of the run is ended on the host. The run may then pass or fail.
    [Tags]    ow-01    ow-03
    End Runs By    connection    End The Connections Of Other Runs

The Next Run Starts Clean After Libvirt's Daemon Is Killed
    [Documentation]    SIGKILL of libvirtd, which systemd starts again. The guests survive, and the run may survive too.
    [Tags]    ow-01    ow-03
    End Runs By    libvirtd    Kill Libvirt's Daemon

The Next Run Starts Clean After The Host Reboots
    [Documentation]    The host reboots cleanly during the run, without a notice to the run.
    [Tags]    ow-01    ow-03
    Skip Unless The Host's Power May Be Cut
    End Runs By    reboot    Reboot Host    foreign=True

The Next Run Starts Clean After The Host Loses Its Power
    [Documentation]    When the host is back, the run's data on disks and NVDIMMs is there, but its guests do not run.
    [Tags]    ow-01    ow-03
    Skip Unless The Host's Power May Be Cut
    End Runs By    power    Cut And Restore Host Power

A Living Run Is Not Reclaimed And Leaves Nothing When It Fails
    [Documentation]    The run is paused by SIGSTOP while its guest runs. It then continues at the same place.
    [Tags]    ow-01
    Start A Run    failing=yes
    Wait For Worker At    at-running
    Process.Send Signal To Process    SIGSTOP    run    group=True
    Clean Up Should Find Nothing
    ${guests} =    Get Guests
    Collections.Should Contain Match    ${guests}    vpmem-*
    Process.Send Signal To Process    SIGCONT    run    group=True
    Worker Should End With    run    1
    Nothing Should Be Left And What Is Foreign Unchanged

The Leak Report Names Each Kind Of Leak
    [Documentation]    A suite that leaves anything fails at its end. The message names each leak.
    [Tags]    ow-02
    Leave One Of Each Kind
    ${report} =    Run Keyword And Expect Error    Host * is not as it was:*    Host State Should Be Unchanged
    FOR    ${kind}    IN    namespace left_behind    domain left-behind    mount of /dev/pmem    lease of
    ...    file /var/lib/libvirt/images/left-behind
        Should Contain    ${report}    leaked: ${kind}
    END
    Should Contain    ${report}    changed: free in region

The Leak Report Names Each Missing Object
    [Documentation]    A suite that removes anything that existed before it fails too. Each object exists when the host
    ...    state is remembered, and is gone afterwards.
    [Tags]    ow-01
    Leave One Of Each Kind
    Remember Host State
    End The Run
    ${report} =    Run Keyword And Expect Error    Host * is not as it was:*    Host State Should Be Unchanged
    FOR    ${kind}    IN    namespace left_behind    domain left-behind    mount of /dev/pmem
    ...    file /var/lib/libvirt/images/left-behind
        Should Contain    ${report}    gone: ${kind}
    END
    [Teardown]    Remember Host State


*** Keywords ***
Make Foreign Things
    [Documentation]    Create a namespace with content, a domain and a file, all without a mark.
    Take A Fitting Host Or Skip    mapping    labels
    ${run} =    Get Run Id
    VAR    ${FOREIGN} =    foreign-${run}    scope=SUITE
    Create Foreign Things With The Host's Own Tools
    Write Pattern    ${FOREIGN}    seed=foreign    length=4MiB    foreign=True
    Remember Host State
    ${sums} =    Get Sums Of Foreign Things
    VAR    ${BEFORE} =    ${sums}    scope=SUITE

Create Foreign Things With The Host's Own Tools
    [Documentation]    Create the namespace with ndctl, the domain with virsh, and the file in the directory of guest
    ...    images.
    Create Foreign Namespace    ${FOREIGN}    at_least=32MiB
    Run On Host
    ...    dd
    ...    if\=/dev/urandom
    ...    of\=/var/lib/libvirt/images/${FOREIGN}
    ...    bs\=64K
    ...    count\=1
    ...    status\=none
    VAR    ${domain} =    <domain type="kvm"><name>${FOREIGN}</name><memory unit="MiB">64</memory><vcpu>1</vcpu>
    ...    <os><type machine="pc">hvm</type></os></domain>    separator=
    Run On Host    virsh    define    /dev/stdin    stdin=${domain}

Remove Foreign Things
    [Documentation]    Remove the foreign objects after a check that they are unchanged.
    ${open} =    Get Open Hosts
    IF    not $open    RETURN
    Host State Should Be Unchanged
    Run On Host    rm    /var/lib/libvirt/images/${FOREIGN}
    Undefine Guest    ${FOREIGN}    foreign=True
    Destroy Namespace    ${FOREIGN}    foreign=True
    Remember Host State
    Give The Host Back

Get Sums Of Foreign Things
    [Documentation]    Return checksums of every byte of the namespace, and of the file and the domain's XML.
    ${namespace} =    Get Namespace Checksum    ${FOREIGN}
    ${file} =    Get Output Of Host    sha256sum    /var/lib/libvirt/images/${FOREIGN}
    ${xml} =    Get Output Of Host    virsh    dumpxml    ${FOREIGN}
    RETURN    ${namespace} ${file} ${xml}

Nothing Should Be Left And What Is Foreign Unchanged
    [Documentation]    Fail unless capacity, namespaces, domains, mounts, files and leases are as before.
    Host State Should Be Unchanged
    ${sums} =    Get Sums Of Foreign Things
    Should Be Equal    ${sums}    ${BEFORE}

Start A Run
    [Documentation]    Start robot or pabot as a separate run, in a new process group.
    [Arguments]    ${runner}=${ROBOT}    ${failing}=${EMPTY}
    OperatingSystem.Remove Directory    ${MEETING}    recursive=True
    Start Worker Suite    live_dangerously    run    runner=${runner}    FAILING=${failing}

End Runs By
    [Documentation]    Start one run after another, end each run at a different point, and check that the next run
    ...    starts clean.
    [Arguments]    ${way}    ${end}    @{arguments}    ${runner}=${ROBOT}    &{named}
    FOR    ${number}    IN RANGE    ${POINTS}
        ${step}    ${moment} =    Choose From Seed    ${SEED} ${way} ${number}    ${STEPS}    3
        Log    ${way} at ${step}, ${moment} s later    console=${{int($POINTS) > 1}}
        Start A Run And Wait For    ${step}    ${moment}    runner=${runner}
        Run Keyword    ${end}    @{arguments}    &{named}
        Process.Wait For Process    run    timeout=8 minutes    on_timeout=kill
        The Next Run Should Start Clean
    END

Start A Run And Wait For
    [Documentation]    Start a run, and return this number of seconds after it reached a step. If the run has
    ...    already ended by itself, start another run, and wait for half of the time.
    [Arguments]    ${step}    ${moment}    ${runner}
    WHILE    True    limit=6
        Start A Run    runner=${runner}
        Wait For Worker At    at-${step}
        ${ended} =    Process.Wait For Process    run    timeout=${moment}
        IF    $ended is None    RETURN
        The Next Run Should Start Clean
        VAR    ${moment} =    ${{$moment / 2}}
    END

The Next Run Should Start Clean
    [Documentation]    Reclaim the leftovers. Check that the next user of the space finds no byte of them.
    ${places} =    Get Places Of The Run's Pool
    Clean Up After Dead Runs
    Nothing Should Be Left And What Is Foreign Unchanged
    Places Should Be Zero    @{places}

Get Places Of The Run's Pool
    [Documentation]    Return a region and an extent for each leftover namespace to which the run may have written.
    ${namespaces} =    Get Namespaces
    VAR    @{places} =    @{EMPTY}
    FOR    ${namespace}    IN    @{namespaces}
        IF    $namespace.name not in ('danger_1', 'danger_2') or not $namespace.device
            CONTINUE
        END
        ${extents} =    Get Region Extents    ${namespace.region}
        ${extent} =    Get Record With    ${extents}    holder=${namespace.dev}
        Collections.Append To List    ${places}    ${namespace.region}    ${extent}
    END
    RETURN    ${places}

Places Should Be Zero
    [Documentation]    Create a namespace over each place, and fail unless the place contains only zeros.
    [Arguments]    @{places}
    FOR    ${region}    ${extent}    IN    @{places}
        ${namespace} =    Create Namespace    ${region}    mode=devdax    map=mem
        ${extents} =    Get Region Extents    ${region}
        ${over} =    Get Record With    ${extents}    holder=${namespace.dev}
        ${offset} =    Subtract Size    ${extent.offset}    ${over.offset}
        ${length} =    Subtract Size    ${extent.size}    2MiB
        # The first 2 MiB of each namespace are not part of its device.
        Content Should Be Zero    ${namespace}    offset=${offset}    length=${length}
        Destroy Namespace    ${namespace}
    END

Kill The Run
    [Documentation]    Kill the run and all processes that it started.
    ${run} =    Process.Get Process Id    run
    Kill Process And Its Children    ${run}

Kill Libvirt's Daemon
    [Documentation]    Kill the daemon by SIGKILL, and wait until a new daemon answers.
    ${before} =    Get Output Of Host    pgrep    -x    libvirtd
    Run On Host    pkill    -KILL    -x    libvirtd
    ${after} =    Run Script On Host    wait_for_libvirtd.sh    timeout=3 minutes
    Should Not Be Equal    ${after}    ${before}

Cut And Restore Host Power
    [Documentation]    Cut and restore the power. The host then has a new boot.
    Cut Host Power    foreign=True
    Restore Host Power

Leave One Of Each Kind
    [Documentation]    Leave a namespace, a mount, a claim, a domain and a file.
    ${region} =    Get Region With Room    at_least=64MiB
    ${namespace} =    Create Namespace    ${region}    mode=fsdax    size=at least 32MiB    name=left_behind
    Make File System    ${namespace}    ext4    overwrite=True
    Mount File System    ${namespace}
    ${claimed} =    Create Namespace    ${region}    mode=devdax    size=at least 32MiB    name=left_claimed
    Claim Namespaces    name=left_claimed
    Define Guest    vpmem=${claimed}    name=left-behind
    Run On Host    touch    /var/lib/libvirt/images/left-behind

End The Run
    [Documentation]    Remove all processes, files, claims and objects of this run.
    End The Workers
    Clean Up After Dead Runs
    ${claims} =    Get Claims
    Release Claims    @{claims}    wipe=False
    Clean Up Host
    Run On Host    rm    -f    /var/lib/libvirt/images/left-behind
