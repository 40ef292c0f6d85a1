*** Settings ***
Documentation     Nova's own test of a resize from one host to another, with a revert and a confirm.

Resource          ../resources/server.resource

Suite Setup       Take Two Hosts Or Skip With Nova's Namespaces
Suite Teardown    Give The Server And Both Hosts Back

Test Tags         nv-02


*** Test Cases ***
A Resize To Another Host Uses Namespaces On Both Hosts
    [Documentation]    Nova's test_resize: in VERIFY_RESIZE the new namespaces are on the other host. The old namespaces
    ...    stay in use.
    Resize Server    ${SERVER}    ${LARGER}    host=${OTHER}
    Get Server Status    ${SERVER}    ==    VERIFY_RESIZE
    Server Should Have    ${SERVER}    4GB    SMALL
    Held Should Be    ${ONE}    4GB=0    SMALL=1
    Held Should Be    ${OTHER}    4GB=1    SMALL=1
    Content Should Be Zero    ${SERVER.claims[1].namespace}

A Revert Brings The Server Back With Its Data
    [Documentation]    The server runs on the first host again. The namespaces on the other host are free and contain
    ...    zeros.
    [Setup]    Server Has Been Resized    ${SERVER}    ${LARGER}    host=${OTHER}
    VAR    ${new} =    ${SERVER.claims}
    Write Into All Of Server    ${SERVER}    seed=on the other host
    Revert Resize    ${SERVER}
    Server Should Have    ${SERVER}    SMALL
    Guest Pattern Should Be Intact    ${SERVER.guest}    seed=old data    length=4MiB
    Held Should Be    ${ONE}    4GB=0    SMALL=1
    Held Should Be    ${OTHER}    4GB=0    SMALL=0
    Every Byte Should Be Zero    ${new}

A Confirm Leaves Nothing On The First Host
    [Documentation]    The server runs on the other host. Its old namespace is free and contains zeros.
    [Setup]    Server Has Its First Flavor    ${SERVER}
    VAR    ${before} =    ${SERVER.claims}
    Resize Server    ${SERVER}    ${LARGER}    host=${OTHER}
    Confirm Resize    ${SERVER}
    Get Server Status    ${SERVER}    ==    ACTIVE
    Server Should Have    ${SERVER}    4GB    SMALL
    Held Should Be    ${OTHER}    4GB=1    SMALL=1
    Held Should Be    ${ONE}    4GB=0    SMALL=0
    Every Byte Should Be Zero    ${before}


*** Keywords ***
Take Two Hosts Or Skip With Nova's Namespaces
    [Documentation]    Take two hosts with the same labels, as hosts of one cloud have. The server starts on the first
    ...    host.
    ${one}    ${other} =    Take Two Hosts Or Skip
    VAR    ${ONE} =    ${one}    scope=SUITE
    VAR    ${OTHER} =    ${other}    scope=SUITE
    FOR    ${host}    IN    ${OTHER}    ${ONE}
        Switch Host    ${host}
        Skip Unless A Region Has Labels
        Create Pmem Namespaces    ${PMEM_NAMESPACES}    4GB=at least 64MiB    SMALL=at least 32MiB
    END
    Make The Server

Make The Server
    [Documentation]    Create a server of the smaller flavor on the first host, with data in it.
    ${smaller} =    Create Flavor    smaller    hw:pmem=SMALL
    ${larger} =    Create Flavor    larger    hw:pmem=4GB,SMALL
    ${server} =    Create Server    ${smaller}    host=${ONE}
    VAR    ${SERVER} =    ${server}    scope=SUITE
    VAR    ${LARGER} =    ${larger}    scope=SUITE
    Write Into All Of Server    ${SERVER}    seed=old data

Held Should Be
    [Documentation]    Compare the number of namespaces in use for each label on the host. Leave this host current.
    [Arguments]    ${host}    &{counts}
    Switch Host    ${host}
    FOR    ${label}    ${count}    IN    &{counts}
        Get Pmem Used    ${label}    ==    ${count}
    END

Give The Server And Both Hosts Back
    [Documentation]    Delete the servers, and then give both hosts back.
    Clean Up Servers
    Give Both Hosts Back
