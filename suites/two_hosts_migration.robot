*** Settings ***
Documentation     A guest with persistent memory moves from one host to another.
...
...               The bytes of a running guest move with it. The bytes of a stopped guest stay on the source host.

Resource          ../resources/guest.resource

Suite Setup       Boot A Guest On The First Of Two Hosts
Suite Teardown    Give Both Hosts Back
Test Setup        Guest Is On The First Host


*** Variables ***
${SEED}      written on the first host
${LENGTH}    8MiB


*** Test Cases ***
A Migration Without A Valid Target Device Is Refused
    [Documentation]    The target device is missing, too small, or there are too many. Nothing is lost, and the guest
    ...    keeps running.
    [Tags]    mg-02
    Run Keyword And Expect Error    *path '/dev/dax99.9'*that exists on ${SECOND}*
    ...    Migrate Guest    ${GUEST}    ${SECOND}    vpmem=/dev/dax99.9
    Run Keyword And Expect Error    *size of ${TOO_SMALL.device}*at most the size of the backing*
    ...    Migrate Guest    ${GUEST}    ${SECOND}    vpmem=${TOO_SMALL}
    VAR    @{two_devices} =    ${THERE}    ${TOO_SMALL}
    Run Keyword And Expect Error    *1 backings on the target, one for each device*
    ...    Migrate Guest    ${GUEST}    ${SECOND}    vpmem=${two_devices}
    Guest Should Be On    ${FIRST}    ${HERE}
    Guest Should Not Be On    ${SECOND}

A Running Guest Is Not Moved Offline
    [Documentation]    The message says how the guest can be migrated.
    [Tags]    mg-02
    Run Keyword And Expect Error    *is running: it can only be migrated live*
    ...    Migrate Guest    ${GUEST}    ${SECOND}    vpmem=${THERE}    live=False
    Guest Should Be On    ${FIRST}    ${HERE}

A Migration That Does Not End Is Aborted At Its Timeout
    [Documentation]    At 1 MiB per second the transfer of the guest's memory exceeds the timeout. The guest keeps
    ...    running.
    [Tags]    mg-02
    Switch Host    ${FIRST}
    Run On Host    virsh    migrate-setspeed    ${GUEST.name}    1
    Run Keyword And Expect Error    *The job was aborted*is running on ${FIRST}*is not defined on ${SECOND}*
    ...    Migrate Guest    ${GUEST}    ${SECOND}    vpmem=${THERE}    timeout=15 seconds
    Guest Should Be On    ${FIRST}    ${HERE}
    Guest Should Not Be On    ${SECOND}
    [Teardown]    Run On Host    virsh    migrate-setspeed    ${GUEST.name}    8796093022207

A Running Guest Moves With Its Bytes
    [Documentation]    The same boot of the guest's kernel continues in a new QEMU, on the other host's namespace.
    [Tags]    mg-01
    ${boot} =    Get Guest Boot Id    ${GUEST}
    ${moved} =    Migrate Guest    ${GUEST}    ${SECOND}    vpmem=${THERE}
    VAR    ${GUEST} =    ${moved}    scope=SUITE
    Get Guest Boot Id    ${GUEST}    ==    ${boot}
    Guest Should Be On    ${SECOND}    ${THERE}
    Guest Should Not Be On    ${FIRST}

The Source Keeps The Guest's Bytes
    [Documentation]    The migration did not ask for a wipe.
    [Tags]    mg-01
    [Setup]    Guest Is On The Second Host
    Switch Host    ${FIRST}
    Pattern Should Be Intact    ${HERE}    seed=${SEED}    length=${LENGTH}

The Source Is Wiped On Request
    [Documentation]    The guest moves back. Every byte of its old namespace is zero.
    [Tags]    mg-01
    [Setup]    Guest Is On The Second Host
    Switch Host    ${SECOND}
    ${moved} =    Migrate Guest    ${GUEST}    ${FIRST}    vpmem=${HERE}    wipe_source=True
    VAR    ${GUEST} =    ${moved}    scope=SUITE
    Guest Should Be On    ${FIRST}    ${HERE}
    Switch Host    ${SECOND}
    Content Should Be Zero    ${THERE}

A Stopped Guest Moves Without Its Bytes
    [Documentation]    Only its definition moves. The namespace on the target still contains zeros, and the source keeps
    ...    the bytes.
    [Tags]    mg-01
    Switch Host    ${FIRST}
    Stop Guest    ${GUEST}    how=destroy
    ${moved} =    Migrate Guest    ${GUEST}    ${SECOND}    vpmem=${THERE}    live=False
    ${devices} =    Get Guest Devices    ${moved}    inactive=True
    Should Be Equal    ${devices[0].path}    ${THERE.device}
    Content Should Be Zero    ${THERE}
    Switch Host    ${FIRST}
    Pattern Should Be Intact    ${HERE}    seed=${SEED}    length=${LENGTH}
    Guest Should Not Be On    ${FIRST}


*** Keywords ***
Boot A Guest On The First Of Two Hosts
    [Documentation]    Create namespaces on both hosts, and a guest with a pattern on the first host.
    ${first}    ${second} =    Take Two Hosts Or Skip
    VAR    ${FIRST} =    ${first}    scope=SUITE
    VAR    ${SECOND} =    ${second}    scope=SUITE
    Make Namespaces On The Second Host
    Switch Host    ${FIRST}
    ${here} =    Create Devdax Namespace    ${SIZE}    here
    ${guest} =    Start New Guest    vpmem=${here}
    VAR    ${HERE} =    ${here}    scope=SUITE
    VAR    ${GUEST} =    ${guest}    scope=SUITE
    Write Pattern In Guest    ${GUEST}    seed=${SEED}    length=${LENGTH}

Make Namespaces On The Second Host
    [Documentation]    Create a namespace of the same size without data of an earlier guest, and a namespace that is too
    ...    small.
    Switch Host    ${SECOND}
    ${smallest} =    Get Smallest Size    32MiB
    ${twice} =    Multiply Size    ${smallest}    2
    VAR    ${SIZE} =    ${twice}    scope=SUITE
    ${there} =    Create Devdax Namespace    ${SIZE}    there
    ${small} =    Create Devdax Namespace    ${smallest}    too-small
    Wipe Content    ${there}
    VAR    ${THERE} =    ${there}    scope=SUITE
    VAR    ${TOO_SMALL} =    ${small}    scope=SUITE

Guest Should Be On
    [Documentation]    Fail unless the guest runs there, all views agree, and guest and host read its bytes.
    [Arguments]    ${host}    ${namespace}
    Switch Host    ${host}
    Get Guest State    ${GUEST}    ==    running
    All Views Should Agree    ${GUEST}
    Guest Pattern Should Be Intact    ${GUEST}    seed=${SEED}    length=${LENGTH}
    Host Should Hold Guest Pattern    ${GUEST}    ${namespace}    seed=${SEED}    length=${LENGTH}

Guest Should Not Be On
    [Documentation]    Fail if libvirt on the host knows the guest.
    [Arguments]    ${host}
    Switch Host    ${host}
    ${guests} =    Get Guests
    Should Not Contain    ${guests}    ${GUEST.name}
    IF    $host == $FIRST
        Switch Host    ${SECOND}
    ELSE
        Switch Host    ${FIRST}
    END

Guest Is On The First Host
    [Documentation]    Move the guest to the first host, unless it runs there. The second host keeps none of its bytes.
    Switch Host    ${FIRST}
    ${guests} =    Get Guests
    IF    $GUEST.name not in $guests
        Switch Host    ${SECOND}
        ${moved} =    Migrate Guest    ${GUEST}    ${FIRST}    vpmem=${HERE}    wipe_source=True
        VAR    ${GUEST} =    ${moved}    scope=SUITE
        Switch Host    ${FIRST}
    END

Guest Is On The Second Host
    [Documentation]    Move the guest to the second host, unless it runs there. The first host keeps its bytes.
    Switch Host    ${SECOND}
    ${guests} =    Get Guests
    IF    $GUEST.name not in $guests
        Switch Host    ${FIRST}
        ${moved} =    Migrate Guest    ${GUEST}    ${SECOND}    vpmem=${THERE}
        VAR    ${GUEST} =    ${moved}    scope=SUITE
        Switch Host    ${SECOND}
    END
