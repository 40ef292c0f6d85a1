*** Settings ***
Documentation     One run with everything that a run may have on a host: it tells before each step that it comes to it.
...
...               It ends well, fails, or is killed in the middle of a step.

Library           OperatingSystem
Library           VpmemLibrary

Suite Setup       Open The Host
Suite Teardown    Clean Up And Close


*** Variables ***
${HOSTS}      ${EMPTY}
${HOST}       ${EMPTY}
${MEETING}    ${EMPTY}
${FAILING}    ${EMPTY}


*** Test Cases ***
All That A Run May Have
    [Documentation]    Namespaces of two kinds, a mount, a claim, a server that writes, and the way back.
    Make Namespaces And Mount One
    Come To    claim
    ${claim} =    Claim Namespace    label=SMALL
    Write Pattern    ${claim.namespace}    seed=not to be found by anybody    length=1MiB
    ${server} =    Have A Server That Writes
    IF    $FAILING    Fail    as it was told to
    Come To    delete
    Delete Server    ${server}
    Come To    release
    Release Claims    ${claim}


*** Keywords ***
Open The Host
    [Documentation]    As any suite: what dead runs left is taken back, and what is there is remembered.
    Open Host From File    ${HOSTS}    ${HOST}
    Reclaim What Dead Runs Left
    Remember Host State

Make Namespaces And Mount One
    [Documentation]    Two of the setting, and one with a file system.
    Come To    namespaces
    Create Pmem Namespaces    SMALL:danger_1|danger_2    SMALL=at least 32MiB
    Come To    mount
    ${region} =    Get Roomiest Region    at_least=64MiB
    ${namespace} =    Create Namespace    ${region}    mode=fsdax    size=at least 64MiB    name=danger_fs
    Make File System    ${namespace}    ext4    overwrite=True
    Mount File System    ${namespace}

Have A Server That Writes
    [Documentation]    Returns it once it has written.
    Come To    server
    ${flavor} =    Create Flavor    small    hw:pmem=SMALL
    ${server} =    Create Server    ${flavor}
    Come To    running
    Write Pattern In Guest    ${server.guest}    seed=not to be found by anybody    length=1MiB
    RETURN    ${server}

Come To
    [Documentation]    Tells which step comes now.
    [Arguments]    ${step}
    OperatingSystem.Create File    ${MEETING}/at-${step}

Clean Up And Close
    [Documentation]    As any suite: nothing may be left.
    ${claims} =    Get Claims
    Release Claims    @{claims}
    Clean Up Host
    Host Should Be As Remembered
    Close All Hosts
