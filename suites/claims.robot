*** Settings ***
Documentation     Only one tenant at a time can claim a namespace, from any worker on any machine. A released namespace
...               is clean.
...
...               The namespaces are created once. Other workers are separate robot processes. They share only the host
...               with this one.

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
Namespaces Are Claimed By Label In The Requested Order
    [Documentation]    Each label gets one namespace, in the requested order. The host itself counts the claims.
    [Tags]    cl-01
    ${claims} =    Claim Namespaces    POOL    LARGE    POOL
    VAR    @{labels} =    ${claims[0].label}    ${claims[1].label}    ${claims[2].label}
    Should Be Equal    ${labels}    ${{['POOL', 'LARGE', 'POOL']}}
    Should Be Equal    ${claims[1].namespace.name}    pool_0
    Should Not Be Equal    ${claims[0].namespace.uuid}    ${claims[2].namespace.uuid}
    Locks On The Host Should Be    3
    Get Pmem Used    POOL    ==    2

Namespaces Are Claimed By Size And Mode
    [Documentation]    The claimed namespace has the requested size and mode. A request that no namespace can meet is
    ...    refused.
    [Tags]    cl-01
    ${large} =    Get Namespace    pool_0
    ${claims} =    Claim Namespaces    size=${large.size}    mode=devdax
    Get Namespace Property    ${claims[0].namespace}    name    ==    pool_0
    Run Keyword And Expect Error    *1 of mode sector*    Claim Namespaces    mode=sector
    Run Keyword And Expect Error    *1 of 1GiB*    Claim Namespaces    size=1GiB

A Failed Claim Names The Holders And Their Start Times
    [Documentation]    A claim that cannot be met completely takes no namespace.
    [Tags]    cl-01
    ${claims} =    Claim Namespaces    POOL    POOL
    ${run} =    Get Run Id
    ${error} =    Run Keyword And Expect Error
    ...    All namespaces of label POOL*
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

A Released Namespace Is Wiped And Can Be Claimed Again
    [Documentation]    The next claim finds zeros, to the last byte.
    [Tags]    cl-01
    ${claims} =    Claim Namespaces    name=pool_1
    Write Pattern    ${claims[0].namespace}    seed=first tenant
    Release Claims    @{claims}
    Content Should Be Zero    pool_1
    ${again} =    Claim Namespaces    name=pool_1
    Should Be Equal    ${again[0].namespace.uuid}    ${claims[0].namespace.uuid}

Many Workers Claim At Once And Each Namespace Goes To One Worker
    [Documentation]    Four workers start at the same moment. One worker claims each namespace, and all namespaces are
    ...    released.
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

The Claims Of A Killed Worker Are Freed At Once And Wiped
    [Documentation]    The worker writes into its namespaces and is killed. The next claim gets zeros without waiting.
    [Tags]    cl-03
    A Worker Holds All Of The Pool
    Run Keyword And Expect Error    All namespaces of label POOL*    Claim Namespaces    POOL
    Pattern Should Be Intact    pool_2    seed=left behind    length=1MiB
    Process.Send Signal To Process    KILL    worker-0
    Process.Wait For Process    worker-0    timeout=1 minute
    ${claims} =    Claim Namespaces    POOL    POOL    POOL
    FOR    ${claim}    IN    @{claims}
        Content Should Be Zero    ${claim.namespace}
    END

A Claim Excludes A Worker On Another Machine
    [Documentation]    The other worker has a different host name and its own connection to the host.
    [Tags]    cl-04
    Skip Unless Host Names Can Be Changed
    A Worker Holds All Of The Pool    other-controller
    ${error} =    Run Keyword And Expect Error    All namespaces of label POOL*    Claim Namespaces    POOL
    Should Contain    ${error}    on other-controller, since
    OperatingSystem.Create File    ${MEETING}/end
    Every Worker Should End Well    1
    Claim Namespaces    POOL

A Claim Survives A Reconnect To The Host
    [Documentation]    The connection is cut on the host. If no other worker took the claim meanwhile, it is re-acquired
    ...    with the same UUID.
    [Tags]    cl-03
    ${claims} =    Claim Namespaces    name=pool_1
    Cut The Connection
    Locks On The Host Should Be    0
    ${now} =    Get Claims
    Should Be Equal    ${now[0].namespace.uuid}    ${claims[0].namespace.uuid}
    Locks On The Host Should Be    1
    Release Claims    @{claims}
    Get Pmem Used    POOL    ==    0


*** Keywords ***
Make A Pool
    [Documentation]    Take a host and create four namespaces on it.
    Take A Host
    ${size} =    Get Smallest Size    32MiB
    Create Pmem Namespaces    ${SETTING}    LARGE=${{2 * $size}}    POOL=${size}

Start A Worker
    [Documentation]    Start robot with the suite of one worker as a separate run. With `controller`, the worker gets
    ...    that host name.
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
    [Documentation]    Start one worker and wait until it has claimed the whole pool.
    [Arguments]    ${controller}=${EMPTY}
    Start A Worker    0    seed=left behind    controller=${controller}
    OperatingSystem.Create File    ${MEETING}/begin
    ${claimed} =    Every Worker Should Be    claimed    1
    Length Should Be    ${claimed}    3

Every Worker Should Be
    [Documentation]    Wait until `workers` workers have reported that they reached `point`. Return the lines that they
    ...    reported.
    [Arguments]    ${point}    ${workers}
    VAR    ${told} =    ${EMPTY}
    FOR    ${worker}    IN RANGE    ${workers}
        OperatingSystem.Wait Until Created    ${MEETING}/${point}-${worker}    timeout=3 minutes
        ${text} =    OperatingSystem.Get File    ${MEETING}/${point}-${worker}
        VAR    ${told} =    ${told}\n${text}
    END
    RETURN    ${{$told.split()}}

Every Worker Should End Well
    [Documentation]    Wait for the workers. Show the output of a worker that fails.
    [Arguments]    ${workers}
    FOR    ${worker}    IN RANGE    ${workers}
        ${ended} =    Process.Wait For Process    worker-${worker}    timeout=5 minutes    on_timeout=kill
        Should Be Equal As Integers    ${ended.rc}    0    ${ended.stdout}
    END

Get Uuids Of The Pool
    [Documentation]    Return the UUIDs as the host's own ndctl lists them, not as the claims list them.
    VAR    @{uuids} =    @{EMPTY}
    FOR    ${name}    IN    pool_1    pool_2    pool_3
        ${namespace} =    Get Namespace    ${name}
        Collections.Append To List    ${uuids}    ${namespace.label_uuid}
    END
    RETURN    ${uuids}

Locks On The Host Should Be
    [Documentation]    Count the lease files of namespaces that the host's kernel lists as locked.
    [Arguments]    ${expected}
    VAR    ${script} =    cd /var/lib/vpmem/leases || exit; for file in 76706d65-*; do
    ...    [ -e "$file" ] && grep "FLOCK.*:$(stat -c %i "$file") " /proc/locks; done | wc -l
    ${locked} =    Run On Host    sh    -c    ${script}
    Should Be Equal As Integers    ${locked.text}    ${expected}

Cut The Connection
    [Documentation]    End this worker's connections on the host, as an outage would: that of its leases may be another
    ...    one, where sshd allows few sessions for each connection.
    VAR    ${script} =    up() { p=$1; until grep -q ^sshd /proc/$p/comm; do p=$(awk '{ print $4 }' /proc/$p/stat);
    ...    done; echo $p; }; for it in $(pgrep -f '^bash.*vpmem-leases') $$; do kill $(up $it); done; sleep 5
    Run Keyword And Expect Error    *connection*broke*    Run On Host    sh    -c    ${script}

Skip Unless Host Names Can Be Changed
    [Documentation]    Skip unless a process may get a different host name. This needs root, or user namespaces.
    ${status} =    OperatingSystem.Run And Return Rc    unshare --uts hostname vpmem
    Skip If    ${status} != 0    `unshare --uts` is not allowed here: run as root to have a second host name.

End The Workers And Give Back
    [Documentation]    Release all claims. Remove all worker processes and the files through which the workers met.
    Process.Terminate All Processes    kill=True
    OperatingSystem.Remove Directory    ${MEETING}    recursive=True
    ${claims} =    Get Claims
    Release Claims    @{claims}    wipe=False
