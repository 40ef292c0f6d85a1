*** Settings ***
Documentation     One run that logs in with a valid and an invalid secret, and logs all processes meanwhile.

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
    [Documentation]    The passphrase opens the key, so the host opens. The processes of the host and of this machine
    ...    are logged.
    Open Host    ${ADDRESS}    ${USER}    port=${PORT}    known_hosts=${KNOWN_HOSTS}    key_file=${KEY_FILE}
    ...    key_passphrase=${SECRET}    alias=right
    Run On Host    ps    -eo    args
    OperatingSystem.Run    ps -eo args

The Wrong Password
    [Documentation]    The login is refused with an error.
    Open Host    ${ADDRESS}    ${USER}    port=${PORT}    known_hosts=${KNOWN_HOSTS}    password=${SECRET}
    ...    alias=wrong
