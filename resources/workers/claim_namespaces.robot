*** Settings ***
Documentation     One worker that claims all free namespaces of a host, while other workers claim too.

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
All Free Namespaces Are Claimed
    [Documentation]    Start and release on a signal from the suite, and report the claims.
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
    [Documentation]    Open the host. The namespaces belong to another run, so this worker allows foreign
    ...    namespaces explicitly.
    Open Host From File    ${HOSTS}    ${HOST}
    Set Pmem Namespaces    ${SETTING}    foreign=True

Claim Until Nothing Is Left
    [Documentation]    Claim one namespace after another. The refusal must say that all namespaces are held.
    TRY
        WHILE    True    limit=50
            Claim Namespaces    POOL
        END
    EXCEPT    All namespaces of label POOL*is held*    type=GLOB
        Log    Nothing is left.
    END

Write Into Every Claim
    [Documentation]    Leave bytes that the next tenant must not find.
    [Arguments]    ${claims}
    FOR    ${claim}    IN    @{claims}
        Write Pattern    ${claim.namespace}    seed=${SEED}    length=1MiB    foreign=True
    END
