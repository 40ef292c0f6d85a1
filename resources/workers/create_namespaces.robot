*** Settings ***
Documentation     One worker: makes and destroys namespaces in one region of a host that others use at the same time.

Library           VpmemLibrary

Suite Setup       Open Host From File    ${HOSTS}    ${HOST}
Suite Teardown    Close All Hosts


*** Variables ***
${HOSTS}     ${EMPTY}
${HOST}      ${EMPTY}
${REGION}    ${EMPTY}
${WORKER}    ${EMPTY}
${ROUNDS}    4


*** Test Cases ***
Every Create Gives A Namespace Of Its Own
    [Documentation]    Makes a namespace, leaves one in two of them, and never meets another worker's.
    FOR    ${round}    IN RANGE    ${ROUNDS}
        ${kept} =    Create Namespace    ${REGION}    mode=raw    size=16MiB    name=kept-${WORKER}-${round}
        ${gone} =    Create Namespace    ${REGION}    mode=raw    size=16MiB    name=gone-${WORKER}-${round}
        Destroy Namespace    ${gone}
        Namespace Should Exist    ${kept}
    END
