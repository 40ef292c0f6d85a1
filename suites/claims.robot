*** Settings ***
Documentation     Namespaces are claimed by one tenant at a time, whoever asks and from wherever, and given back clean.
...
...               The namespaces are made once. Other workers are processes of robot of their own: nothing is shared
...               with them but the host.

Library           OperatingSystem
Library           Process
Library           String
Resource          ../resources/host.resource

Suite Setup       Make A Pool
Suite Teardown    Give The Host Back
Test Teardown     End The Workers And Give Back


*** Variables ***
${SETTING}    LARGE:pool_0,POOL:pool_1|pool_2|pool_3
${MEETING}    ${OUTPUT_DIR}/meeting-of-the-claimants


*** Test Cases ***
Namespaces Are Claimed By Label In The Order Asked For
    [Documentation]    One namespace for each label, in that order; the host itself counts what is held.
    [Tags]    cl-01
    ${claims} =    Claim Namespaces    POOL    LARGE    POOL
    VAR    @{labels} =    ${claims[0].label}    ${claims[1].label}    ${claims[2].label}
    Should Be Equal    ${labels}    ${{['POOL', 'LARGE', 'POOL']}}
    Should Be Equal    ${claims[1].namespace.name}    pool_0
    Should Not Be Equal    ${claims[0].namespace.uuid}    ${claims[2].namespace.uuid}
    Locks On The Host Should Be    3
    Get Pmem Used    POOL    ==    2

Namespaces Are Claimed By Size And Mode
    [Documentation]    What is found has the size and the mode that were asked for; what could never be is refused.
    [Tags]    cl-01
    ${large} =    Get Namespace    pool_0
    ${claim} =    Claim Namespace    size=${large.size}    mode=devdax
    Get Namespace Name    ${claim.namespace}    ==    pool_0
    Run Keyword And Expect Error    *1 of mode sector*    Claim Namespace    mode=sector
    Run Keyword And Expect Error    *1 of 1GiB*    Claim Namespace    size=1GiB

Exhaustion Names Who Holds What Since When
    [Documentation]    Nothing is taken by a claim that cannot be met whole.
    [Tags]    cl-01
    ${claims} =    Claim Namespaces    POOL    POOL
    ${run} =    Get Run Id
    ${error} =    Run Keyword And Expect Error
    ...    All that meets label POOL*
    ...    Claim Namespaces
    ...    LARGE
    ...    POOL
    ...    POOL
    FOR    ${claim}    IN    @{claims}
        Should Match Regexp
        ...    ${error}
        ...    (?s)${claim.namespace.name} on .* is held by run ${run}, process .*, since 20..-..-.. .* UTC
    END
    Get Pmem Used    LARGE    ==    0

What Is Given Back Is Wiped And Claimed Again
    [Documentation]    The next one finds zeros, to the last byte.
    [Tags]    cl-01
    ${claim} =    Claim Namespace    name=pool_1
    Write Pattern    ${claim.namespace}    seed=first tenant
    Release Claims    ${claim}
    Content Should Be Zero    pool_1
    ${again} =    Claim Namespace    name=pool_1
    Should Be Equal    ${again.namespace.uuid}    ${claim.namespace.uuid}

Many Workers Claim At Once And None Gets Another's
    [Documentation]    Four workers begin at the same moment; each namespace is claimed by one, and all are given back.
    [Tags]    cl-02
    FOR    ${worker}    IN RANGE    4
        Start A Worker    worker=${worker}
    END
    Every Worker Should Be    ready    4
    OperatingSystem.Create File    ${MEETING}/begin
    ${claimed} =    Every Worker Should Be    claimed    4
    ${pool} =    Get Uuids Of The Pool
    Collections.Lists Should Be Equal    ${claimed}    ${pool}    ignore_order=True
    OperatingSystem.Create File    ${MEETING}/end
    Every Worker Should End Well    4
    Locks On The Host Should Be    0

What A Killed Worker Held Is Free At Once And Is Wiped
    [Documentation]    The worker wrote into what it had; it is killed, and the next claim gets zeros without waiting.
    [Tags]    cl-03
    A Worker Holds All Of The Pool
    Run Keyword And Expect Error    All that meets label POOL*    Claim Namespace    label=POOL
    Pattern Should Be Intact    pool_2    seed=left behind    length=1MiB
    Process.Send Signal To Process    KILL    worker-0
    Process.Wait For Process    worker-0    timeout=1 minute
    ${claims} =    Claim Namespaces    POOL    POOL    POOL
    FOR    ${claim}    IN    @{claims}
        Content Should Be Zero    ${claim.namespace}
    END

A Worker On Another Machine Is Held Off As Well
    [Documentation]    The other worker has a host name of its own, and a connection of its own is all that it shares.
    [Tags]    cl-04
    Skip Unless Host Names Can Be Changed
    A Worker Holds All Of The Pool    other-controller
    ${error} =    Run Keyword And Expect Error    All that meets label POOL*    Claim Namespace    label=POOL
    Should Contain    ${error}    on other-controller, since
    OperatingSystem.Create File    ${MEETING}/end
    Every Worker Should End Well    1
    Claim Namespace    label=POOL

A Claim Holds When The Host Was Connected To Anew
    [Documentation]    The connection is cut on the host; what nobody took in between is held again, by the same UUID.
    [Tags]    cl-03
    ${claim} =    Claim Namespace    name=pool_1
    Cut The Connection
    Locks On The Host Should Be    0
    ${claims} =    Get Claims
    Should Be Equal    ${claims[0].namespace.uuid}    ${claim.namespace.uuid}
    Locks On The Host Should Be    1
    Release Claims    ${claim}
    Get Pmem Used    POOL    ==    0


*** Keywords ***
Make A Pool
    [Documentation]    Takes a host and makes four namespaces on it.
    Take A Host
    ${size} =    Get Smallest Size    32MiB
    Create Pmem Namespaces    ${SETTING}    LARGE=${{2 * $size}}    POOL=${size}

Start A Worker
    [Documentation]    Starts robot with the suite of one worker, as a run of its own, if asked under another host name.
    [Arguments]    ${worker}    ${seed}=${EMPTY}    ${controller}=${EMPTY}
    OperatingSystem.Create Directory    ${MEETING}
    ${aliases} =    Get Open Hosts
    VAR    @{machine} =    env
    IF    $controller
        VAR    @{machine} =    unshare    --uts    sh    -c    hostname ${controller} && exec "$@"    sh
    END
    Process.Start Process    @{machine}    ${{sys.executable}}    -m    robot    --output    NONE    --log    NONE
    ...    --report    NONE    --variable    HOSTS:${HOSTS}    --variable    HOST:${aliases}[0]
    ...    --variable    SETTING:${SETTING}    --variable    WORKER:${worker}    --variable    MEETING:${MEETING}
    ...    --variable    SEED:${seed}    ${CURDIR}/../resources/workers/claim_namespaces.robot
    ...    alias=worker-${worker}    env:VPMEM_RUN_ID=${EMPTY}    stdout=${OUTPUT_DIR}/claimant-${worker}.txt
    ...    stderr=STDOUT

A Worker Holds All Of The Pool
    [Documentation]    Starts one worker and waits until it has all.
    [Arguments]    ${controller}=${EMPTY}
    Start A Worker    0    seed=left behind    controller=${controller}
    OperatingSystem.Create File    ${MEETING}/begin
    ${claimed} =    Every Worker Should Be    claimed    1
    Length Should Be    ${claimed}    3

Every Worker Should Be
    [Documentation]    Waits until so many workers have told that they are as far, and returns the lines that they told.
    [Arguments]    ${point}    ${workers}
    VAR    ${told} =    ${EMPTY}
    FOR    ${worker}    IN RANGE    ${workers}
        OperatingSystem.Wait Until Created    ${MEETING}/${point}-${worker}    timeout=3 minutes
        ${text} =    OperatingSystem.Get File    ${MEETING}/${point}-${worker}
        VAR    ${told} =    ${told}\n${text}
    END
    RETURN    ${{$told.split()}}

Every Worker Should End Well
    [Documentation]    Waits for the workers; one that fails shows what it printed.
    [Arguments]    ${workers}
    FOR    ${worker}    IN RANGE    ${workers}
        ${ended} =    Process.Wait For Process    worker-${worker}    timeout=5 minutes    on_timeout=kill
        Should Be Equal As Integers    ${ended.rc}    0    ${ended.stdout}
    END

Get Uuids Of The Pool
    [Documentation]    Asks the host's own ndctl, not the claims.
    VAR    @{uuids} =    @{EMPTY}
    FOR    ${name}    IN    pool_1    pool_2    pool_3
        ${namespace} =    Get Namespace    ${name}
        Collections.Append To List    ${uuids}    ${namespace.label_uuid}
    END
    RETURN    ${uuids}

Locks On The Host Should Be
    [Documentation]    Counts the namespaces' files that the host's kernel lists as locked, and who reads them sees why.
    [Arguments]    ${expected}
    VAR    ${script} =    cd /var/lib/vpmem/leases || exit; for file in 76706d65-*; do
    ...    [ -e "$file" ] && grep "FLOCK.*:$(stat -c %i "$file") " /proc/locks; done | wc -l
    ${locked} =    Run On Host    sh    -c    ${script}
    Should Be Equal As Integers    ${locked.text}    ${expected}

Cut The Connection
    [Documentation]    Ends the host's own end of this worker's connection, as an outage would.
    VAR    ${script} =    p=$$; until grep -q ^sshd /proc/$p/comm; do p=$(awk '{ print $4 }' /proc/$p/stat); done;
    ...    kill $p; sleep 5
    Run Keyword And Expect Error    *connection*broke*    Run On Host    sh    -c    ${script}

Skip Unless Host Names Can Be Changed
    [Documentation]    A process with a host name of its own needs root here, or user namespaces.
    ${status} =    OperatingSystem.Run And Return Rc    unshare --uts hostname vpmem
    Skip If    ${status} != 0    `unshare --uts` is not allowed here: run as root to have a second host name.

End The Workers And Give Back
    [Documentation]    Leaves no process, no file by which workers met, and no claim.
    Process.Terminate All Processes    kill=True
    OperatingSystem.Remove Directory    ${MEETING}    recursive=True
    ${claims} =    Get Claims
    Release Claims    @{claims}    wipe=False
