*** Settings ***
Documentation    One run that creates a flavor and a server in the cloud, and waits to be killed.

Library          OperatingSystem
Library          VpmemLibrary
Library          VpmemLibrary.OpenStack

Suite Setup      Open Host From File    ${HOSTS}    ${HOST}


*** Variables ***
${HOSTS}      ${EMPTY}
${HOST}       ${EMPTY}
${CLOUD}      ${EMPTY}
${IMAGE}      ${EMPTY}
${PLACE}      ${EMPTY}
${MEETING}    ${EMPTY}


*** Test Cases ***
A Server That Is Left Behind
    [Documentation]    Create an ACTIVE server, and wait.
    Open Cloud    ${CLOUD}
    ${flavor} =    Create Flavor    left    hw:pmem=SMALL
    ${server} =    Create Server    ${flavor}    image=${IMAGE}    host=${PLACE}
    Server Should Become    ${server}    ACTIVE
    OperatingSystem.Create File    ${MEETING}/at-active
    OperatingSystem.Wait Until Created    ${MEETING}/never    timeout=10 minutes
