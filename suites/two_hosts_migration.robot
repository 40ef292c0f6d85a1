*** Settings ***
Documentation     A guest with persistent memory goes from one host to another.
...
...               Its bytes go with it when it runs, and stay where they are when it is off.

Resource          ../resources/guest.resource

Suite Setup       Boot A Guest On The First Of Two Hosts
Suite Teardown    Give Both Hosts Back


*** Variables ***
${SEED}      written on the first host
${LENGTH}    8MiB


*** Test Cases ***
A Guest Does Not Go Where There Is No Room For Its Device
    [Documentation]    A device that is absent there, one too small, too few: nothing is lost, the guest runs on.
    [Tags]    mg-02
    Run Keyword And Expect Error    *path '/dev/dax99.9'*that is on ${SECOND}*
    ...    Migrate Guest    ${GUEST}    ${SECOND}    vpmem=/dev/dax99.9
    Run Keyword And Expect Error    *size of ${TOO_SMALL.device}*at most what the backing has*
    ...    Migrate Guest    ${GUEST}    ${SECOND}    vpmem=${TOO_SMALL}
    Run Keyword And Expect Error    *1 backings on the target, one for each device*
    ...    Migrate Guest    ${GUEST}    ${SECOND}    vpmem=${{[$THERE, $TOO_SMALL]}}
    The Guest Should Be On    ${FIRST}    ${HERE}
    The Guest Should Not Be On    ${SECOND}

A Guest That Runs Is Not Moved Offline
    [Documentation]    The message says how it can be moved.
    [Tags]    mg-02
    Run Keyword And Expect Error    *is running: it can be moved live*
    ...    Migrate Guest    ${GUEST}    ${SECOND}    vpmem=${THERE}    live=False
    The Guest Should Be On    ${FIRST}    ${HERE}

A Migration That Does Not End Is Aborted At Its Timeout
    [Documentation]    At 1 MiB a second the guest's memory takes longer than the keyword may. The guest runs on.
    [Tags]    mg-02
    Switch Host    ${FIRST}
    Run On Host    virsh    migrate-setspeed    ${GUEST.name}    1
    Run Keyword And Expect Error    *The job was aborted*is running on ${FIRST}*is not defined on ${SECOND}*
    ...    Migrate Guest    ${GUEST}    ${SECOND}    vpmem=${THERE}    timeout=15 seconds
    The Guest Should Be On    ${FIRST}    ${HERE}
    The Guest Should Not Be On    ${SECOND}
    [Teardown]    Run On Host    virsh    migrate-setspeed    ${GUEST.name}    8796093022207

A Running Guest Goes With Its Bytes
    [Documentation]    The same boot of the guest's kernel goes on in another QEMU, on the other host's namespace.
    [Tags]    mg-01
    ${boot} =    Get Guest Boot Id    ${GUEST}
    ${moved} =    Migrate Guest    ${GUEST}    ${SECOND}    vpmem=${THERE}
    VAR    ${GUEST} =    ${moved}    scope=SUITE
    Get Guest Boot Id    ${GUEST}    ==    ${boot}
    The Guest Should Be On    ${SECOND}    ${THERE}
    The Guest Should Not Be On    ${FIRST}

The Source Keeps What The Guest Left There
    [Documentation]    It was not told to wipe it.
    [Tags]    mg-01
    Switch Host    ${FIRST}
    Pattern Should Be Intact    ${HERE}    seed=${SEED}    length=${LENGTH}

The Source Is Wiped When It Is Asked For
    [Documentation]    The guest goes back; every byte of the namespace that it left is zero.
    [Tags]    mg-01
    Switch Host    ${SECOND}
    ${moved} =    Migrate Guest    ${GUEST}    ${FIRST}    vpmem=${HERE}    wipe_source=True
    VAR    ${GUEST} =    ${moved}    scope=SUITE
    The Guest Should Be On    ${FIRST}    ${HERE}
    Switch Host    ${SECOND}
    Content Should Be Zero    ${THERE}

A Guest That Is Off Goes Without Its Bytes
    [Documentation]    Its definition is moved; the namespace on the target holds zeros as before, the source its bytes.
    [Tags]    mg-01
    Switch Host    ${FIRST}
    Destroy Guest    ${GUEST}
    ${moved} =    Migrate Guest    ${GUEST}    ${SECOND}    vpmem=${THERE}    live=False
    ${devices} =    Get Guest Devices    ${moved}    inactive=True
    Should Be Equal    ${devices[0].path}    ${THERE.device}
    Content Should Be Zero    ${THERE}
    Switch Host    ${FIRST}
    Pattern Should Be Intact    ${HERE}    seed=${SEED}    length=${LENGTH}
    The Guest Should Not Be On    ${FIRST}


*** Keywords ***
Boot A Guest On The First Of Two Hosts
    [Documentation]    Namespaces on both, a guest on the first one's with a pattern in it.
    ${first}    ${second} =    Take Two Hosts
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
    [Documentation]    One of the same size, and one that is too small; its first bytes tell of no earlier guest.
    Switch Host    ${SECOND}
    ${smallest} =    Get Smallest Size    32MiB
    VAR    ${SIZE} =    ${{2 * $smallest}}    scope=SUITE
    ${there} =    Create Devdax Namespace    ${SIZE}    there
    ${small} =    Create Devdax Namespace    ${smallest}    too-small
    Wipe Content    ${there}
    VAR    ${THERE} =    ${there}    scope=SUITE
    VAR    ${TOO_SMALL} =    ${small}    scope=SUITE

The Guest Should Be On
    [Documentation]    It runs there, all views agree, and guest and host read its bytes.
    [Arguments]    ${host}    ${namespace}
    Switch Host    ${host}
    Get Guest State    ${GUEST}    ==    running
    All Views Should Agree    ${GUEST}
    Guest Pattern Should Be Intact    ${GUEST}    seed=${SEED}    length=${LENGTH}
    Host Should Hold Guest Pattern    ${GUEST}    ${namespace}    seed=${SEED}    length=${LENGTH}

The Guest Should Not Be On
    [Documentation]    libvirt there knows nothing of it.
    [Arguments]    ${host}
    Switch Host    ${host}
    ${guests} =    Get Guests
    Should Not Contain    ${guests}    ${GUEST.name}
    Switch Host    ${{$FIRST if $host == $SECOND else $SECOND}}
