*** Settings ***
Documentation     One run that logs in with secrets, right ones and wrong ones, and shows every process while it does.

Library           OperatingSystem
Library           VpmemLibrary

Suite Teardown    Close All Hosts


*** Variables ***
${ADDRESS}           ${EMPTY}
${PORT}              22
${USER}              root
${KNOWN_HOSTS}       ${EMPTY}
${KEY_FILE}          ${EMPTY}
${SECRET: Secret}    %{VPMEM_TEST_SECRET}


*** Test Cases ***
The Right Passphrase
    [Documentation]    Opens the key, so the host is open; its processes and this machine's are logged.
    Open Host    ${ADDRESS}    ${USER}    port=${PORT}    known_hosts=${KNOWN_HOSTS}    key_file=${KEY_FILE}
    ...    key_passphrase=${SECRET}    alias=right
    Run On Host    ps    -eo    args
    OperatingSystem.Run    ps -eo args

The Wrong Password
    [Documentation]    Is refused with an error.
    Open Host    ${ADDRESS}    ${USER}    port=${PORT}    known_hosts=${KNOWN_HOSTS}    password=${SECRET}
    ...    alias=wrong
