*** Settings ***
Documentation     One worker that creates and destroys namespaces in a region of a host, while another worker uses it
...               too.

Library           OperatingSystem
Library           VpmemLibrary

Suite Setup       Open The Host
Suite Teardown    Close All Hosts


*** Variables ***
${HOSTS}      ${EMPTY}
${HOST}       ${EMPTY}
${REGION}     ${EMPTY}
${WORKER}     ${EMPTY}
${OTHER}      ${EMPTY}
${MEETING}    ${EMPTY}
${ROUNDS}     4


*** Test Cases ***
Every Create Gives A Separate Namespace
    [Documentation]    Create two namespaces in each round, each at the same moment as the other worker, and keep one.
    FOR    ${round}    IN RANGE    ${ROUNDS}
        Meet The Other Worker    ${round}-kept
        ${kept} =    Create Namespace
        ...    ${REGION}
        ...    mode=devdax
        ...    size=at least 16MiB
        ...    name=kept-${WORKER}-${round}
        Meet The Other Worker    ${round}-gone
        ${gone} =    Create Namespace
        ...    ${REGION}
        ...    mode=devdax
        ...    size=at least 16MiB
        ...    name=gone-${WORKER}-${round}
        Destroy Namespace    ${gone}
        Namespace Should Exist    ${kept}
    END


*** Keywords ***
Open The Host
    [Documentation]    Open the host so that every create starts at an even second of its clock. The creates of both
    ...    workers then start at the same moment, as they sometimes do by chance.
    ${script} =    OperatingSystem.Get File    ${CURDIR}/../scripts/create_at_even_second.sh
    VAR    @{through} =    sh    -c    ${script}    sh
    Open Host From File    ${HOSTS}    ${HOST}    through=${through}

Meet The Other Worker
    [Documentation]    Wait until the other worker reaches the same point.
    [Arguments]    ${point}
    OperatingSystem.Touch    ${MEETING}/${point}-${WORKER}
    OperatingSystem.Wait Until Created    ${MEETING}/${point}-${OTHER}    timeout=2 minutes
