*** Settings ***
Documentation     Whatever becomes of a run, what it did not make stays as it was, and the next run starts clean.
...
...               Other runs are processes of robot and pabot of their own. Before and after each, a namespace, a domain
...               and a file that no run made are compared byte for byte.
...               `make kill-test` kills at every step; here it is at a few.

Library           OperatingSystem
Library           Process
Resource          ../resources/host.resource

Suite Setup       Make Foreign Things
Suite Teardown    Remove Foreign Things
Test Teardown     End The Run


*** Variables ***
${MEETING}    ${OUTPUT_DIR}/meeting-of-the-killed
# At which steps runs are killed, and how many seconds each step is under way by then: chance goes by the seed.
${STEPS}      mount:running
${SEED}       1
@{ROBOT}      robot


*** Test Cases ***
A Run That Ends Well Leaves Nothing
    [Documentation]    It had namespaces, a mount, a claim and a server; it finds itself that nothing is left.
    [Tags]    ow-01    ow-02
    Start A Run
    The Run Should End With    0
    Nothing Should Be Left And What Is Foreign Unchanged

A Run That Fails Leaves Nothing
    [Documentation]    It fails while its server runs.
    [Tags]    ow-01
    Start A Run    failing=yes
    The Run Should End With    1
    Nothing Should Be Left And What Is Foreign Unchanged

After Robot Is Killed The Next Run Starts Clean
    [Documentation]    SIGKILL in the middle of a step: the next run's set-up takes back what is left.
    [Tags]    ow-01    ow-03    cl-03
    FOR    ${step}    IN    @{{$STEPS.split(':')}}
        Start A Run
        Kill The Run At    ${step}
        Reclaim What Dead Runs Left
        Nothing Should Be Left And What Is Foreign Unchanged
    END

After Pabot Is Killed The Next Run Starts Clean
    [Documentation]    SIGKILL of pabot and of its workers at once.
    [Tags]    ow-01    ow-03
    VAR    @{pabot} =
    ...    pabot.pabot
    ...    --no-pabotlib
    ...    --command
    ...    ${{sys.executable}}
    ...    -m
    ...    robot
    ...    --end-command
    Start A Run    runner=${pabot}
    Kill The Run At    claim
    Reclaim What Dead Runs Left
    Nothing Should Be Left And What Is Foreign Unchanged

After The Connection Is Cut The Next Run Starts Clean
    [Documentation]    Every connection of the run is ended on the host: whatever the run makes of it.
    [Tags]    ow-01    ow-03
    Start A Run
    Wait For Step    running
    Cut The Connections Of The Run
    Process.Wait For Process    run    timeout=5 minutes    on_timeout=kill
    Reclaim What Dead Runs Left
    Nothing Should Be Left And What Is Foreign Unchanged

What A Living Run Has Is Not Taken Back
    [Documentation]    It is stopped, so it cannot do anything for itself, and goes on where it was.
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
    VAR    ${script} =    ndctl create-namespace --region "$2" --mode devdax --map mem --size 32M --name "$1"
    ...    --no-autolabel && head -c 65536 /dev/urandom >"/var/lib/libvirt/images/$1" && virsh define /dev/stdin
    Run On Host    sh    -c    ${script}    sh    ${FOREIGN}    ${region.dev}    stdin=${domain}

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

Kill The Run At
    [Documentation]    Kills it and all that it started at a moment within a step: at once, or up to two seconds later.
    [Arguments]    ${step}
    Wait For Step    ${step}
    ${moment} =    Evaluate    random.Random($SEED + $step).choice((0, 0.2, 0.5, 1, 2))
    Sleep    ${moment}    The moment within the step
    ${run} =    Process.Get Process Id    run
    VAR    @{pids} =    @{{[each.pid for each in psutil.Process($run).children(recursive=True)]}}    ${run}
    OperatingSystem.Run    kill -KILL ${{' '.join(map(str, $pids))}}
    Process.Wait For Process    run    timeout=1 minute

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
    ${namespace} =    Create Namespace    ${region}    mode=fsdax    size=32MiB    name=left_behind
    Make File System    ${namespace}    ext4    overwrite=True
    Mount File System    ${namespace}
    ${claimed} =    Create Namespace    ${region}    mode=devdax    size=32MiB    name=left_claimed
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
