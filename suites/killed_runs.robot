*** Settings ***
Documentation     Whatever becomes of a run, what it did not make stays as it was, and the next run starts clean.
...
...               Other runs are processes of robot and pabot of their own. Before and after each, a namespace, a domain
...               and a file that no run made are compared byte for byte.
...
...               A run is ended at a point that goes by the seed: one of its steps, and a moment within it. Here it is
...               one point for each way to end it; `make kill-test` has twenty.

Library           OperatingSystem
Library           Process
Resource          ../resources/host.resource

Suite Setup       Make Foreign Things
Suite Teardown    Remove Foreign Things
Test Teardown     End The Run


*** Variables ***
${MEETING}    ${OUTPUT_DIR}/meeting-of-the-killed
${POINTS}     1
${SEED}       2
@{STEPS}      namespaces    mount    claim    server    running    delete    release
@{ROBOT}      robot
@{PABOT}      pabot.pabot    --no-pabotlib    --command    ${{sys.executable}}    -m    robot    --end-command


*** Test Cases ***
A Run That Ends Well Leaves Nothing
    [Documentation]    It had namespaces, a mount, a claim and a server; it finds itself that nothing is left.
    [Tags]    ow-01    ow-02
    Start A Run
    The Run Should End With    0
    Nothing Should Be Left And What Is Foreign Unchanged

After Robot Is Killed The Next Run Starts Clean
    [Documentation]    SIGKILL in the middle of a step: the next run's set-up takes back what is left.
    [Tags]    ow-01    ow-03    cl-03
    End Runs By    robot    Kill The Run

After Pabot Is Killed The Next Run Starts Clean
    [Documentation]    SIGKILL of pabot and of its workers at once.
    [Tags]    ow-01    ow-03
    End Runs By    pabot    Kill The Run    runner=${PABOT}

After The Connection Is Cut The Next Run Starts Clean
    [Documentation]    Every connection of the run is ended on the host: whatever the run makes of it.
    [Tags]    ow-01    ow-03
    End Runs By    connection    Cut The Connections Of The Run

After Libvirt's Daemon Is Killed The Next Run Starts Clean
    [Documentation]    SIGKILL of libvirtd, which systemd starts again: guests live on, and the run may do so as well.
    [Tags]    ow-01    ow-03
    End Runs By    libvirtd    Kill Libvirt's Daemon

After The Host Reboots The Next Run Starts Clean
    [Documentation]    In good order, but under the run, which knows nothing of it.
    [Tags]    ow-01    ow-03
    The Host Should Be Ours To Reboot
    End Runs By    reboot    Reboot Host    foreign=True

After The Host Loses Its Power The Next Run Starts Clean
    [Documentation]    What the run had on disks and NVDIMMs is there when the host is back, and its guests are not.
    [Tags]    ow-01    ow-03
    The Host Should Be Ours To Reboot
    End Runs By    power    Cut And Restore Host Power

A Living Run Is Left Alone And Leaves Nothing When It Fails
    [Documentation]    It is stopped while its server runs, so that it cannot do anything for itself, and goes on where
    ...    it was.
    [Tags]    ow-01
    Start A Run    failing=yes
    Wait For Step    running
    Process.Send Signal To Process    SIGSTOP    run    group=True
    ${taken} =    Reclaim What Dead Runs Left
    Should Be Empty    ${taken}
    ${guests} =    Get Guests
    Collections.Should Contain Match    ${guests}    instance-*
    Process.Send Signal To Process    SIGCONT    run    group=True
    The Run Should End With    1
    Nothing Should Be Left And What Is Foreign Unchanged

A Leak Of Each Kind Is Told
    [Documentation]    A suite that leaves anything fails at its end, and the message names each thing.
    [Tags]    ow-02
    Leave One Of Each Kind
    ${told} =    Run Keyword And Expect Error    Host * is not as it was:*    Host Should Be As Remembered
    FOR    ${kind}    IN    namespace left_behind    domain left-behind    mount of /dev/pmem    lease of
    ...    file /var/lib/libvirt/images/left-behind
        Should Contain    ${told}    leaked: ${kind}
    END
    Should Contain    ${told}    changed: free in region

What Goes Is Told
    [Documentation]    A suite that takes away what was there before it fails as well. Each thing is there when the host
    ...    is looked at, and gone afterwards.
    [Tags]    ow-01
    Leave One Of Each Kind
    Remember Host State
    End The Run
    ${told} =    Run Keyword And Expect Error    Host * is not as it was:*    Host Should Be As Remembered
    FOR    ${kind}    IN    namespace left_behind    domain left-behind    mount of /dev/pmem
    ...    file /var/lib/libvirt/images/left-behind
        Should Contain    ${told}    gone: ${kind}
    END
    [Teardown]    Remember Host State


*** Keywords ***
Make Foreign Things
    [Documentation]    A namespace with content, a domain and a file, none of which has a mark.
    Take A Host
    ${run} =    Get Run Id
    VAR    ${FOREIGN} =    foreign-${run}    scope=SUITE
    Have Them Made By The Host's Own Tools
    Write Pattern    ${FOREIGN}    seed=foreign    length=4MiB    foreign=True
    Remember Host State
    ${sums} =    Get Sums Of Foreign Things
    VAR    ${BEFORE} =    ${sums}    scope=SUITE

Have Them Made By The Host's Own Tools
    [Documentation]    By ndctl, by virsh, and a file beside the images of guests.
    ${region} =    Get Roomiest Region    at_least=32MiB
    VAR    ${domain} =    <domain type="kvm"><name>${FOREIGN}</name><memory unit="MiB">64</memory><vcpu>1</vcpu>
    ...    <os><type machine="pc">hvm</type></os></domain>    separator=
    VAR    ${script} =    ndctl create-namespace --region "$2" --mode devdax --map mem --size "$3" --name "$1"
    ...    --no-autolabel && head -c 65536 /dev/urandom >"/var/lib/libvirt/images/$1" && virsh define /dev/stdin
    ${size} =    Get Smallest Namespace Size    ${region}    at_least=32MiB
    Run On Host    sh    -c    ${script}    sh    ${FOREIGN}    ${region.dev}    ${{int($size)}}    stdin=${domain}

Remove Foreign Things
    [Documentation]    Only once they were seen to be as they were.
    Host Should Be As Remembered
    Run On Host    rm    /var/lib/libvirt/images/${FOREIGN}
    Undefine Guest    ${FOREIGN}    foreign=True
    Destroy Namespace    ${FOREIGN}    foreign=True
    Remember Host State
    Give The Host Back

Get Sums Of Foreign Things
    [Documentation]    Every byte of the namespace and of the file, and the domain's XML.
    ${namespace} =    Get Namespace Checksum    ${FOREIGN}
    ${others} =    Run On Host    sh    -c    (virsh dumpxml "$1"; cat "/var/lib/libvirt/images/$1") | sha256sum
    ...    sh    ${FOREIGN}
    RETURN    ${namespace} ${others.text}

Nothing Should Be Left And What Is Foreign Unchanged
    [Documentation]    Capacity, namespaces, domains, mounts, files and leases are what they were.
    Host Should Be As Remembered
    ${sums} =    Get Sums Of Foreign Things
    Should Be Equal    ${sums}    ${BEFORE}

Start A Run
    [Documentation]    Starts robot or pabot as a run of its own, in a process group of its own.
    [Arguments]    ${runner}=${ROBOT}    ${failing}=${EMPTY}
    OperatingSystem.Remove Directory    ${MEETING}    recursive=True
    OperatingSystem.Create Directory    ${MEETING}
    ${aliases} =    Get Open Hosts
    Process.Start Process    ${{sys.executable}}    -m    @{runner}    --outputdir    ${MEETING}
    ...    --variable    HOSTS:${HOSTS}    --variable    HOST:${aliases}[0]    --variable    MEETING:${MEETING}
    ...    --variable    FAILING:${failing}    ${CURDIR}/../resources/workers/live_dangerously.robot
    ...    alias=run    env:VPMEM_RUN_ID=${EMPTY}    stdout=${OUTPUT_DIR}/dangerous-run.txt    stderr=STDOUT

Wait For Step
    [Documentation]    Waits until the run comes to a step.
    [Arguments]    ${step}
    OperatingSystem.Wait Until Created    ${MEETING}/at-${step}    timeout=4 minutes

End Runs By
    [Documentation]    Has one run after the other meet its end at a point of its own, with the next run starting clean.
    [Arguments]    ${way}    ${end}    @{arguments}    ${runner}=${ROBOT}    &{named}
    FOR    ${number}    IN RANGE    ${POINTS}
        ${step}    ${moment} =    Choose A Point    ${way}    ${number}
        Log    ${way} at ${step}, ${moment} s later    console=${{int($POINTS) > 1}}
        Start A Run    runner=${runner}
        Wait For Step    ${step}
        Sleep    ${moment}    The moment within the step
        Run Keyword    ${end}    @{arguments}    &{named}
        Process.Wait For Process    run    timeout=8 minutes    on_timeout=kill
        The Next Run Should Start Clean
    END

The Next Run Should Start Clean
    [Documentation]    What is left is taken back, and no byte of it is there for whoever gets the room next.
    ${places} =    Get Places Of The Run's Pool
    Reclaim What Dead Runs Left
    Nothing Should Be Left And What Is Foreign Unchanged
    Places Should Be Zero    @{places}

Get Places Of The Run's Pool
    [Documentation]    Where the namespaces lie that it left and may have written to: a region and an extent for each.
    ${namespaces} =    Get Namespaces
    VAR    @{left} =    @{{[each for each in $namespaces if each.name in ('danger_1', 'danger_2') and each.device]}}
    VAR    @{places} =    @{EMPTY}
    FOR    ${namespace}    IN    @{left}
        ${extents} =    Get Region Extents    ${namespace.region}
        VAR    ${extent} =    ${{dict((each.holder, each) for each in $extents)[$namespace.dev]}}
        Collections.Append To List    ${places}    ${namespace.region}    ${extent}
    END
    RETURN    ${places}

Places Should Be Zero
    [Documentation]    A namespace that is made over each place finds no byte of the run there.
    [Arguments]    @{places}
    FOR    ${region}    ${extent}    IN    @{places}
        ${namespace} =    Create Namespace    ${region}    mode=devdax    map=mem
        ${extents} =    Get Region Extents    ${region}
        VAR    ${over} =    ${{dict((each.holder, each) for each in $extents)[$namespace.dev]}}
        # Of each namespace the first 2 MiB are not its device's.
        Content Should Be Zero    ${namespace}    offset=${{$extent.offset - $over.offset}}
        ...    length=${{$extent.size - 2 * 1024 * 1024}}
        Destroy Namespace    ${namespace}
    END

Choose A Point
    [Documentation]    A step, and how many seconds it is under way by then.
    [Arguments]    ${way}    ${number}
    VAR    ${chance} =    ${{random.Random('${SEED} ${way} ${number}')}}
    VAR    ${step} =    ${{$chance.choice($STEPS)}}
    VAR    ${moment} =    ${{round($chance.uniform(0, 3), 2)}}
    RETURN    ${step}    ${moment}

Kill The Run
    [Documentation]    Kills it and all that it started.
    ${run} =    Process.Get Process Id    run
    VAR    @{pids} =    @{{[each.pid for each in psutil.Process($run).children(recursive=True)]}}    ${run}
    OperatingSystem.Run    kill -KILL ${{' '.join(map(str, $pids))}}

Kill Libvirt's Daemon
    [Documentation]    By SIGKILL, and waits until another one answers.
    ${before} =    Run On Host    pgrep    -x    libvirtd
    Run On Host    pkill    -KILL    -x    libvirtd
    VAR    ${script} =    until virsh -q list >/dev/null 2>&1; do sleep 0.2; done; pgrep -x libvirtd
    ${after} =    Run On Host    timeout    120    sh    -c    ${script}    timeout=3 minutes
    Should Not Be Equal    ${after.text}    ${before.text}

Cut And Restore Host Power
    [Documentation]    The host is another boot's afterwards.
    Cut Host Power    foreign=True
    Restore Host Power

The Host Should Be Ours To Reboot
    [Documentation]    Skips where the hosts file does not say that the host may be rebooted and how its power is cut.
    ${aliases} =    Get Open Hosts
    ${entry} =    Get Host Entry    ${HOSTS}    ${aliases}[0]
    Skip If    not ($entry.may_reboot and $entry.power)
    ...    ${entry.name} may not be rebooted: say host_may_reboot, host_power_off and host_power_on in its section.

The Run Should End With
    [Documentation]    Shows what it printed if it ends otherwise.
    [Arguments]    ${status}
    ${ended} =    Process.Wait For Process    run    timeout=8 minutes    on_timeout=kill
    Should Be Equal As Integers    ${ended.rc}    ${status}    ${ended.stdout}

Cut The Connections Of The Run
    [Documentation]    Ends on the host each connection that holds leases but this worker's own.
    VAR    ${script} =    own=$$; up() { p=$1; until grep -q ^sshd /proc/$p/comm; do
    ...    p=$(awk '{ print $4 }' /proc/$p/stat); done; echo $p; }; me=$(up $$);
    ...    for holder in $(pgrep -f "^bash -c.*vpmem-leases"); do it=$(up $holder); [ $it = $me ] || kill $it; done
    Run On Host    bash    -c    ${script}

Leave One Of Each Kind
    [Documentation]    A namespace, a mount, a claim, a domain and a file.
    ${region} =    Get Roomiest Region    at_least=64MiB
    ${namespace} =    Create Namespace    ${region}    mode=fsdax    size=at least 32MiB    name=left_behind
    Make File System    ${namespace}    ext4    overwrite=True
    Mount File System    ${namespace}
    ${claimed} =    Create Namespace    ${region}    mode=devdax    size=at least 32MiB    name=left_claimed
    Claim Namespace    name=left_claimed
    Define Guest    vpmem=${claimed}    name=left-behind
    Run On Host    touch    /var/lib/libvirt/images/left-behind

End The Run
    [Documentation]    Leaves no process, no file, no claim and nothing of this run's own.
    Process.Terminate All Processes    kill=True
    Reclaim What Dead Runs Left
    ${claims} =    Get Claims
    Release Claims    @{claims}    wipe=False
    Clean Up Host
    Run On Host    rm    -f    /var/lib/libvirt/images/left-behind
