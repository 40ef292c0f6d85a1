*** Settings ***
Documentation     Only one tenant at a time can claim a namespace, from any worker on any machine. A released namespace
...               is clean.
...
...               The namespaces are created once. Other workers are separate robot processes. They share only the host
...               with this one.

Library           OperatingSystem
Resource          ../resources/other_runs.resource

Suite Setup       Make A Pool
Suite Teardown    Give The Host Back
Test Teardown     End The Workers And Give Back


*** Variables ***
${SETTING}    LARGE:pool_0,POOL:pool_1|pool_2|pool_3


*** Test Cases ***
Namespaces Are Claimed By Label In The Requested Order
    [Documentation]    Each label gets one namespace, in the requested order. The host itself counts the claims.
    [Tags]    cl-01
    ${claims} =    Claim Namespaces    POOL    LARGE    POOL
    ${labels} =    Get Field Of Each    ${claims}    label
    Labels Should Be    ${labels}    POOL    LARGE    POOL
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

A Claimed Namespace Cannot Leave The Setting
    [Documentation]    The error names the namespace, its holder and the start time. The setting does not change.
    [Tags]    cl-01
    ${run} =    Get Run Id
    Claim Namespaces    name=pool_1
    Run Keyword And Expect Error    *POOL:pool_1, which is in use: it is held by run ${run}, *since*
    ...    Set Pmem Namespaces    LARGE:pool_0,POOL:pool_2|pool_3
    Get Pmem Total    POOL    ==    3

A Namespace That Could Not Be Wiped Is Not Given Out
    [Documentation]    The host's wiping tool fails. No worker gets the namespace until a wipe succeeds.
    [Tags]    cl-03
    ${namespace} =    Get Namespace    pool_1
    Write Pattern    ${namespace}    seed=not wiped    length=4MiB
    Release A Claim Where Wiping Fails    pool_1
    Pattern Should Be Intact    ${namespace}    seed=not wiped    length=4MiB
    Run Keyword And Expect Error    *pool_1 on * is unfit since*    Claim Namespaces    name=pool_1
    Clean Up After Dead Runs
    Content Should Be Zero    ${namespace}
    Claim Namespaces    name=pool_1

Many Workers Claim At Once And Each Namespace Goes To One Worker
    [Documentation]    Four workers start at the same moment. One worker claims each namespace, and all namespaces are
    ...    released.
    [Tags]    cl-02
    FOR    ${worker}    IN RANGE    4
        Start A Claimant    ${worker}
    END
    Wait For Workers At    ready    4
    Let Workers Go On To    begin
    ${claimed} =    Wait For Workers At    claimed    4
    ${pool} =    Get Uuids Of The Pool
    Collections.Lists Should Be Equal    ${claimed}    ${pool}    ignore_order=True
    Let Workers Go On To    end
    FOR    ${worker}    IN RANGE    4
        Worker Should End With    claimant-${worker}    0
    END
    Locks On The Host Should Be    0

The Claims Of A Killed Worker Are Freed At Once And Wiped
    [Documentation]    The worker writes into its namespaces and is killed. The next claim gets zeros without waiting.
    [Tags]    cl-03
    A Worker Holds All Of The Pool
    Run Keyword And Expect Error    All namespaces of label POOL*    Claim Namespaces    POOL
    Pattern Should Be Intact    pool_2    seed=left behind    length=1MiB
    Kill Worker    claimant-0
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
    Let Workers Go On To    end
    Worker Should End With    claimant-0    0
    Claim Namespaces    POOL

A Claim Survives A Reconnect To The Host
    [Documentation]    The connection is cut on the host. If no other worker took the claim meanwhile, it is re-acquired
    ...    with the same UUID.
    [Tags]    cl-03
    ${claims} =    Claim Namespaces    name=pool_1
    End All Connections Of This Worker
    Locks On The Host Should Be    0
    ${now} =    Get Claims
    Should Be Equal    ${now[0].namespace.uuid}    ${claims[0].namespace.uuid}
    Locks On The Host Should Be    1
    Release Claims    @{claims}
    Get Pmem Used    POOL    ==    0


*** Keywords ***
Release A Claim Where Wiping Fails
    [Documentation]    Claim a namespace on a host whose daxio fails. Fail unless its release reports the failure.
    [Arguments]    ${name}
    Look At The Host Where Program Fails    daxio
    Set Pmem Namespaces    ${SETTING}
    ${claims} =    Claim Namespaces    name=${name}
    Run Keyword And Expect Error    *daxio*exit status: 1*    Release Claims    @{claims}
    Look At The Host Itself

Make A Pool
    [Documentation]    Take a host and create four namespaces on it.
    Take A Fitting Host Or Skip    mapping    labels
    ${size} =    Get Smallest Size    32MiB
    ${twice} =    Multiply Size    ${size}    2
    Create Pmem Namespaces    ${SETTING}    LARGE=${twice}    POOL=${size}

Labels Should Be
    [Documentation]    Fail unless these are the labels, in this order.
    [Arguments]    ${labels}    @{expected}
    Should Be Equal    ${labels}    ${expected}

Start A Claimant
    [Documentation]    Start a worker as a separate run that claims the pool. With `controller`, the worker gets that
    ...    host name.
    [Arguments]    ${worker}    ${seed}=${EMPTY}    ${controller}=${EMPTY}
    VAR    @{runner} =    @{ROBOT}
    IF    $controller
        ${script} =    OperatingSystem.Get File    ${CURDIR}/../resources/scripts/with_host_name.sh
        VAR    @{runner} =    unshare    --uts    sh    -c    ${script}    sh    ${controller}    @{ROBOT}
    END
    Start Worker Suite    claim_namespaces    claimant-${worker}    runner=${runner}
    ...    SETTING=${SETTING}    WORKER=${worker}    SEED=${seed}

A Worker Holds All Of The Pool
    [Documentation]    Start one worker and wait until it has claimed the whole pool.
    [Arguments]    ${controller}=${EMPTY}
    Start A Claimant    0    seed=left behind    controller=${controller}
    Let Workers Go On To    begin
    ${claimed} =    Wait For Workers At    claimed    1
    Length Should Be    ${claimed}    3

Wait For Workers At
    [Documentation]    Wait until `workers` workers have reported that they reached `point`. Return the words that they
    ...    reported.
    [Arguments]    ${point}    ${workers}
    VAR    ${reports} =    ${EMPTY}
    FOR    ${worker}    IN RANGE    ${workers}
        ${report} =    Wait For Worker At    ${point}-${worker}
        VAR    ${reports} =    ${reports}\n${report}
    END
    ${words} =    Get Words    ${reports}
    RETURN    ${words}

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
    ${locked} =    Run Script On Host    count_locked_claims.sh
    Should Be Equal As Integers    ${locked}    ${expected}

Skip Unless Host Names Can Be Changed
    [Documentation]    Skip unless a process may get a different host name. This needs root, or user namespaces.
    ${status} =    OperatingSystem.Run And Return Rc    unshare --uts hostname vpmem
    Skip If    ${status} != 0    `unshare --uts` is not allowed here: run as root to have a second host name.

End The Workers And Give Back
    [Documentation]    Release all claims. Remove all worker processes and the files through which the workers met.
    End The Workers
    ${claims} =    Get Claims
    Release Claims    @{claims}    wipe=False
