*** Settings ***
Documentation     Secrets do not appear in logs, reports, output, errors or process lists.

Library           OperatingSystem
Library           Process
Resource          ../resources/host.resource

Suite Setup       Take A Host
Suite Teardown    Give The Host Back


*** Test Cases ***
A Secret Does Not Appear In Any Output
    [Documentation]    A run of robot at log level TRACE logs in with a passphrase and fails with a password. It logs
    ...    all processes of this machine and of the host meanwhile. The test searches all its output for the secret and
    ...    its encodings.
    [Tags]    sc-04
    ${directory} =    Lock A Copy Of The Key With The Secret Or Skip
    ${ended} =    Run With The Secret    ${directory}
    Should Contain    ${ended.stdout}    2 tests, 1 passed, 1 failed
    Should Contain    ${ended.stdout}    refused
    ${output} =    OperatingSystem.Get File    ${directory}/output.xml
    Should Contain    ${output}    sshd
    Some File Should Hold    ${directory}    sshd
    Secret Should Be In No File    ${directory}
    [Teardown]    OperatingSystem.Remove Directory    ${directory}    recursive=True


*** Keywords ***
Secret Should Be In No File
    [Documentation]    Fail if a file of the directory contains the secret, in Base64, or in hexadecimal digits.
    [Arguments]    ${directory}
    FOR    ${text}    IN    ${SECRET}    ${{base64.b64encode($SECRET.encode()).decode()}}    ${{$SECRET.encode().hex()}}
        No File Should Hold    ${directory}    ${text}
    END

Some File Should Hold
    [Documentation]    Fail unless the search finds a text that exists.
    [Arguments]    ${directory}    ${text}
    ${found} =    Process.Run Process    grep    -rlF    -e    ${text}    ${directory}
    Should Be Equal As Integers    ${found.rc}    0    ${found.stderr}

No File Should Hold
    [Documentation]    Fail unless grep exits with 1. It exits with 1 if it read every file and found nothing, and with
    ...    2 if it could not read.
    [Arguments]    ${directory}    ${text}
    ${found} =    Process.Run Process    grep    -rlF    -e    ${text}    ${directory}
    Should Be Equal    ${found.stdout}    ${EMPTY}
    Should Be Equal As Integers    ${found.rc}    1    ${found.stderr}

Lock A Copy Of The Key With The Secret Or Skip
    [Documentation]    Create a secret that no text contains by chance, and encrypt a copy of the host's key with it.
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
    [Documentation]    Run robot with the secret in the environment, as a hosts file does.
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
