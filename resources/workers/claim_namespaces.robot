*** Settings ***
Documentation     One worker: claims namespaces of a host that others claim at the same time, until none is left.

Library           OperatingSystem
Library           VpmemLibrary

Suite Setup       Open The Host
Suite Teardown    Close All Hosts


*** Variables ***
${HOSTS}      ${EMPTY}
${HOST}       ${EMPTY}
${SETTING}    ${EMPTY}
${WORKER}     ${EMPTY}
${MEETING}    ${EMPTY}
${SEED}       ${EMPTY}


*** Test Cases ***
Whatever Is Free Is Claimed
    [Documentation]    Begins when it is told to, tells what it got, and gives it back when it is told to.
    OperatingSystem.Create File    ${MEETING}/ready-${WORKER}
    OperatingSystem.Wait Until Created    ${MEETING}/begin    timeout=2 minutes
    Claim Until Nothing Is Left
    ${claims} =    Get Claims
    IF    $SEED    Write Into Every Claim    ${claims}
    VAR    ${uuids} =    ${{' '.join(claim.namespace.label_uuid for claim in $claims)}}
    OperatingSystem.Create File    ${MEETING}/new-${WORKER}    ${uuids}
    OperatingSystem.Move File    ${MEETING}/new-${WORKER}    ${MEETING}/claimed-${WORKER}
    OperatingSystem.Wait Until Created    ${MEETING}/end    timeout=5 minutes
    Release Claims    @{claims}


*** Keywords ***
Open The Host
    [Documentation]    The namespaces are another run's: this worker may use them all the same.
    Open Host From File    ${HOSTS}    ${HOST}
    Set Pmem Namespaces    ${SETTING}    foreign=True

Claim Until Nothing Is Left
    [Documentation]    Claims one after the other; a refusal must say that all are held.
    TRY
        WHILE    True    limit=50
            Claim Namespace    label=POOL
        END
    EXCEPT    All that meets label POOL*is held*    type=GLOB
        Log    Nothing is left.
    END

Write Into Every Claim
    [Documentation]    Leaves bytes that a next tenant must not find.
    [Arguments]    ${claims}
    FOR    ${claim}    IN    @{claims}
        Write Pattern    ${claim.namespace}    seed=${SEED}    length=1MiB    foreign=True
    END
