*** Settings ***
Documentation     The data of a server. It survives every stop, and a delete erases all of it.

Resource          ../resources/server.resource

Suite Setup       Take A Host For A Server With Data
Suite Teardown    Give The Servers Back
Test Setup        Server Has Data


*** Variables ***
${SEED}      tenant's data
${SERVER}    ${None}


*** Test Cases ***
Stop And Start Keeps The Data
    [Documentation]    Nova itself would wipe the namespace here. The host finds every byte while the server is off.
    [Tags]    nv-09
    ${process} =    Get Guest Process    ${SERVER.guest}
    Stop Server    ${SERVER}
    Get Guest State    ${SERVER.guest}    ==    shut off
    Pattern Should Be Intact    ${NAMESPACE}    seed=${SEED}    length=4MiB
    Namespace Should Be Locked    ${NAMESPACE}
    Start Server    ${SERVER}
    Get Guest Process    ${SERVER.guest}    !=    ${process}
    Server Should Have    ${SERVER}    SMALL
    Guest Pattern Should Be Intact    ${SERVER.guest}    seed=${SEED}    length=4MiB

A Hard Reboot Keeps The Data
    [Documentation]    QEMU is ended without a guest shutdown, and a new QEMU is started.
    [Tags]    nv-09
    ${process} =    Get Guest Process    ${SERVER.guest}
    Reboot Server    ${SERVER}    hard=True
    Get Guest Process    ${SERVER.guest}    !=    ${process}
    Get Server Status    ${SERVER}    ==    ACTIVE
    Guest Pattern Should Be Intact    ${SERVER.guest}    seed=${SEED}    length=4MiB

A Namespace Of A Server Cannot Be Removed From The Setting
    [Documentation]    The error names the namespace, its holder and the start time. The setting does not change.
    [Tags]    nv-08
    ${run} =    Get Run Id
    ${other} =    Get The Other Small Namespace
    Run Keyword And Expect Error    *SMALL:${NAMESPACE.name}, which is in use: it is held by run ${run}, *since*
    ...    Set Pmem Namespaces    4GB:ns_0,SMALL:${other}
    Get Pmem Total    SMALL    ==    2
    Set Pmem Namespaces    SMALL:ns_1|ns_2
    Set Pmem Namespaces    ${PMEM_NAMESPACES}

A Rebuild Wipes And Keeps The Namespace
    [Documentation]    The server keeps the same namespace. It contains zeros in place of data and labels.
    [Tags]    nv-06
    Fill The Server
    Rebuild Server    ${SERVER}
    Server Should Have    ${SERVER}    SMALL
    Should Be Equal    ${SERVER.claims[0].namespace.uuid}    ${NAMESPACE.uuid}
    Content Should Be Zero    ${NAMESPACE}

A Delete Leaves No Byte To The Next Tenant
    [Documentation]    The server wrote data and labels. Afterwards every byte is zero, and the next tenant reads zeros.
    [Tags]    nv-06
    Fill The Server
    Delete Server    ${SERVER}
    Content Should Be Zero    ${NAMESPACE}
    Namespace Should Not Be Locked    ${NAMESPACE}
    Pattern Should Be Intact    ns_0    seed=the neighbour    length=4MiB
    Set Pmem Namespaces    SMALL:${NAMESPACE.name}
    ${next} =    Create Server    ${FLAVOR}
    Should Be Equal    ${next.claims[0].namespace.uuid}    ${NAMESPACE.uuid}
    Guest Should Read Zeros    ${next}
    [Teardown]    Clean Up Servers

A Failed Wipe Is An Error And The Namespace Is Not Given Out
    [Documentation]    The host's wiping tool fails. The server gets status ERROR, and no worker gets the namespace
    ...    until a wipe succeeds.
    [Tags]    nv-06
    [Setup]    Server Is Deleted
    ${server} =    Make A Server Where Wiping Fails
    Run Keyword And Expect Error    *daxio*exit status: 1*    Delete Server    ${server}
    Get Server Status    ${server}    ==    ERROR
    Look At The Host Itself
    Pattern Should Be Intact    ${NAMESPACE}    seed=${SEED}    length=4MiB
    Run Keyword And Expect Error
    ...    *${NAMESPACE.name} on * is unfit since*
    ...    Claim Namespaces
    ...    name=${NAMESPACE.name}
    Clean Up After Dead Runs
    Content Should Be Zero    ${NAMESPACE}
    Claim Namespaces    name=${NAMESPACE.name}
    [Teardown]    Give The Claims Back


*** Keywords ***
Take A Host For A Server With Data
    [Documentation]    Take a host with three namespaces, and write a pattern to a namespace that the server never has.
    Take A Host With Nova's Namespaces
    ${flavor} =    Create Flavor    small    hw:pmem=SMALL
    VAR    ${FLAVOR} =    ${flavor}    scope=SUITE
    Write Pattern    ns_0    seed=the neighbour    length=4MiB

Server Has Data
    [Documentation]    Create the server, unless it is active, and write a pattern to its namespace.
    IF    $SERVER is None or $SERVER.status != 'ACTIVE'
        Set Pmem Namespaces    ${PMEM_NAMESPACES}
        ${server} =    Create Server    ${FLAVOR}
        VAR    ${SERVER} =    ${server}    scope=SUITE
        VAR    ${NAMESPACE} =    ${server.claims[0].namespace}    scope=SUITE
    END
    Write Into Server    ${SERVER}    seed=${SEED}

Server Is Deleted
    [Documentation]    Delete all servers, so that the namespace of the server is free. Its name is known.
    Clean Up Servers
    Set Pmem Namespaces    ${PMEM_NAMESPACES}
    ${namespace} =    Get Namespace    ns_1
    VAR    ${NAMESPACE} =    ${namespace}    scope=SUITE

Get The Other Small Namespace
    [Documentation]    Return the name of the namespace of label SMALL that the server does not have.
    IF    $NAMESPACE.name == 'ns_1'    RETURN    ns_2
    RETURN    ns_1

Fill The Server
    [Documentation]    Write data. Make the guest's kernel write its labels, whose index block begins 2 MiB before the
    ...    end of the namespace.
    Write Into Server    ${SERVER}    seed=${SEED}
    Run Script In Guest    ${SERVER.guest}    write_labels.sh
    Label Area Should Begin With    ${NAMESPACE}    NAMESPACE_INDEX

Guest Should Read Zeros
    [Documentation]    Fail unless the guest reads only zeros from its whole device.
    [Arguments]    ${server}
    ${other} =    Run Script In Guest    ${server.guest}    count_bytes_other_than_zero.sh    /dev/pmem0
    Should Be Equal As Integers    ${other}    0

Make A Server Where Wiping Fails
    [Documentation]    Create a server on a host whose daxio fails. The guest itself writes the pattern.
    Look At The Host Where Program Fails    daxio
    Set Pmem Namespaces    SMALL:${NAMESPACE.name}
    ${server} =    Create Server    ${FLAVOR}
    Write Into Server    ${server}    seed=${SEED}
    RETURN    ${server}

Give The Claims Back
    [Documentation]    End the hidden daxio and release all claims.
    Look At The Host Itself
    ${claims} =    Get Claims
    Release Claims    @{claims}
