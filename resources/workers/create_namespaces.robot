*** Settings ***
Documentation     One worker: makes and destroys namespaces in one region of a host that others use at the same time.

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
Every Create Gives A Namespace Of Its Own
    [Documentation]    Makes two namespaces a round, each at the same moment as the other worker, and keeps one.
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
    [Documentation]    Opens the host so that every create starts with an even second of its clock: the workers'
    ...    creates then begin at the same moment, as chance would have it now and then.
    VAR    ${together} =    case "$*" in *create-namespace*)
    ...    until [ $(($(date +%s) % 2)) -eq 0 ]; do sleep 0.02; done;; esac; exec "$@"
    VAR    @{through} =    sh    -c    ${together}    sh
    Open Host From File    ${HOSTS}    ${HOST}    through=${through}

Meet The Other Worker
    [Documentation]    Waits until the other worker is as far.
    [Arguments]    ${point}
    OperatingSystem.Touch    ${MEETING}/${point}-${WORKER}
    OperatingSystem.Wait Until Created    ${MEETING}/${point}-${OTHER}    timeout=2 minutes
