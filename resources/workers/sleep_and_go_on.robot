*** Settings ***
Documentation     One run that creates two namespaces and waits for a signal. Then it creates a third namespace,
...               destroys the first and wipes the second. It writes down the result of each change.

Library           OperatingSystem
Library           VpmemLibrary

Suite Setup       Open Host From File    ${HOSTS}    ${HOST}
Suite Teardown    Close All Hosts


*** Variables ***
${HOSTS}      ${EMPTY}
${HOST}       ${EMPTY}
${REGION}     ${EMPTY}
${MODE}       devdax
${MEETING}    ${EMPTY}


*** Test Cases ***
Change The Objects From Before The Sleep
    [Documentation]    Try each change once with the record from before the sleep.
    ${first} =    Create Namespace    ${REGION}    mode=devdax    size=at least 32MiB    name=slept_1
    ${second} =    Create Namespace    ${REGION}    mode=${MODE}    size=at least 32MiB    name=slept_2
    OperatingSystem.Create File    ${MEETING}/at-asleep
    OperatingSystem.Wait Until Created    ${MEETING}/go-on    timeout=10 minutes
    ${created} =    Run Keyword And Ignore Error    Create Namespace    ${REGION}    mode=devdax    size=at least 16MiB
    ${destroyed} =    Run Keyword And Ignore Error    Destroy Namespace    ${first}
    ${wiped} =    Run Keyword And Ignore Error    Wipe Content    ${second}
    OperatingSystem.Create File    ${MEETING}/results    ${created}[0]: ${created}[1]\n
    OperatingSystem.Append To File    ${MEETING}/results    ${destroyed}[0]: ${destroyed}[1]\n
    OperatingSystem.Append To File    ${MEETING}/results    ${wiped}[0]: ${wiped}[1]\n
