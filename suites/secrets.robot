*** Settings ***
Documentation     Secrets are in no log, report, output, error or process list.

Library           OperatingSystem
Library           Process
Resource          ../resources/host.resource

Suite Setup       Take A Host
Suite Teardown    Give The Host Back


*** Test Cases ***
A Secret Is Nowhere To Be Seen
    [Documentation]    A run of robot at its most talkative logs in with a passphrase, fails with a password, and logs
    ...    every process here and on the host meanwhile. What it leaves is searched for the secret and its encodings.
    [Tags]    sc-04
    ${directory} =    Lock A Copy Of The Key With The Secret
    ${ended} =    Run With The Secret    ${directory}
    Should Contain    ${ended.stdout}    2 tests, 1 passed, 1 failed
    Should Contain    ${ended.stdout}    refused
    ${output} =    OperatingSystem.Get File    ${directory}/output.xml
    Should Contain    ${output}    sshd
    Some File Should Hold    ${directory}    sshd
    FOR    ${text}    IN    ${SECRET}    ${{base64.b64encode($SECRET.encode()).decode()}}    ${SECRET.encode().hex()}
        No File Should Hold    ${directory}    ${text}
    END
    [Teardown]    OperatingSystem.Remove Directory    ${directory}    recursive=True


*** Keywords ***
Some File Should Hold
    [Documentation]    The search finds what is there.
    [Arguments]    ${directory}    ${text}
    ${found} =    Process.Run Process    grep    -rlF    -e    ${text}    ${directory}
    Should Be Equal As Integers    ${found.rc}    0    ${found.stderr}

No File Should Hold
    [Documentation]    grep exits with 1 when it has read every file and found nothing, and with 2 when it could not.
    [Arguments]    ${directory}    ${text}
    ${found} =    Process.Run Process    grep    -rlF    -e    ${text}    ${directory}
    Should Be Equal    ${found.stdout}    ${EMPTY}
    Should Be Equal As Integers    ${found.rc}    1    ${found.stderr}

Lock A Copy Of The Key With The Secret
    [Documentation]    A secret that no text has by chance, and a copy of the host's key that is opened by it.
    ${aliases} =    Get Open Hosts
    ${entry} =    Get Host Entry    ${HOSTS}    ${aliases}[0]
    Skip If    $entry.key_file is None    The hosts file names no key_file that could be copied.
    VAR    ${SECRET} =    ${{secrets.token_urlsafe(12)}}    scope=SUITE
    VAR    ${ENTRY} =    ${entry}    scope=SUITE
    VAR    ${directory} =    ${OUTPUT_DIR}/run-with-a-secret
    OperatingSystem.Copy File    ${ENTRY.key_file}    ${directory}/key
    ${locked} =    Process.Run Process
    ...    ssh-keygen
    ...    -q
    ...    -p
    ...    -P
    ...    ${EMPTY}
    ...    -N
    ...    ${SECRET}
    ...    -f
    ...    ${directory}/key
    Skip If    ${locked.rc} != 0    The key cannot be copied with another passphrase: ${locked.stderr}
    RETURN    ${directory}

Run With The Secret
    [Documentation]    Passes it in the environment, as a hosts file does.
    [Arguments]    ${directory}
    ${ended} =    Process.Run Process
    ...    ${{sys.executable}}
    ...    -m
    ...    robot
    ...    --loglevel
    ...    TRACE
    ...    --outputdir
    ...    ${directory}
    ...    --variable
    ...    ADDRESS:${ENTRY.address}
    ...    --variable
    ...    PORT:${ENTRY.port}
    ...    --variable
    ...    USER:${ENTRY.user}
    ...    --variable
    ...    KNOWN_HOSTS:${ENTRY.known_hosts}
    ...    --variable
    ...    KEY_FILE:${directory}/key
    ...    ${CURDIR}/../resources/workers/use_secrets.robot
    ...    env:VPMEM_TEST_SECRET=${SECRET}
    ...    stderr=STDOUT
    ...    timeout=3 minutes
    ...    on_timeout=kill
    RETURN    ${ended}
