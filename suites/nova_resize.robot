*** Settings ***
Documentation     Nova's own test of a resize on one host, with real namespaces and their content.

Resource          ../resources/server.resource

Suite Setup       Make A Server To Be Resized
Suite Teardown    Give The Servers Back

Test Tags         nv-03


*** Test Cases ***
A Resize Keeps The Old And New Namespaces Together
    [Documentation]    Nova's test_resize_same_host: in VERIFY_RESIZE both namespaces of SMALL are in use, and the
    ...    namespace of 4GB. Content is not copied: the new namespaces contain zeros.
    Resize Server    ${SERVER}    ${LARGER}
    Get Server Status    ${SERVER}    ==    VERIFY_RESIZE
    Server Should Have    ${SERVER}    4GB    SMALL
    Namespace Should Be Locked    ${OLD}
    Get Pmem Used    SMALL    ==    2
    Get Pmem Used    4GB    ==    1
    Should Not Be Equal    ${SERVER.claims[1].namespace.uuid}    ${OLD.uuid}
    Content Should Be Zero    ${SERVER.claims[1].namespace}

A Revert Restores The Old Data And Wipes The New Namespaces
    [Documentation]    The guest reads its pattern again. The namespaces that it wrote meanwhile contain only zeros.
    [Tags]    nv-07
    [Setup]    Server Has Been Resized    ${SERVER}    ${LARGER}
    VAR    ${new} =    ${SERVER.claims}
    Write Into All Of Server    ${SERVER}    seed=in the new one
    Revert Resize    ${SERVER}
    Get Server Status    ${SERVER}    ==    ACTIVE
    Server Should Have    ${SERVER}    SMALL
    Guest Pattern Should Be Intact    ${SERVER.guest}    seed=old data    length=4MiB
    Label Area Should Begin With    ${OLD}    label
    Get Pmem Used    SMALL    ==    1
    Every Byte Should Be Zero    ${new}

A Confirm Keeps The New Namespaces And Wipes The Old
    [Documentation]    The old namespace and its label area contain zeros and are free. The guest has the new data.
    [Tags]    nv-07
    [Setup]    Server Has Its First Flavor    ${SERVER}
    VAR    ${before} =    ${SERVER.claims}
    Resize Server    ${SERVER}    ${LARGER}
    Write Into Server    ${SERVER}    seed=in the new one
    Pattern Should Be Intact    ${OLD}    seed=old data    length=4MiB
    Confirm Resize    ${SERVER}
    Get Server Status    ${SERVER}    ==    ACTIVE
    Server Should Have    ${SERVER}    4GB    SMALL
    Guest Pattern Should Be Intact
    ...    ${SERVER.guest}
    ...    ${SERVER.claims[0].namespace}
    ...    seed=in the new one
    ...    length=4MiB
    Every Byte Should Be Zero    ${before}
    Get Pmem Used    SMALL    ==    1

A Resize That The Host Cannot Provide Does Not Change The Server
    [Documentation]    The server still runs with the same QEMU and namespaces. The resize takes no other namespace.
    [Setup]    Server Has Confirmed Its Resize To    ${SERVER}    ${LARGER}    claims=2
    ${process} =    Get Guest Process    ${SERVER.guest}
    ${other} =    Create Flavor    twice    hw:pmem=SMALL,4GB
    Run Keyword And Expect Error    All namespaces of label 4GB*is held*    Resize Server    ${SERVER}    ${other}
    Get Guest Process    ${SERVER.guest}    ==    ${process}
    Server Should Have    ${SERVER}    4GB    SMALL
    Get Pmem Used    SMALL    ==    1


*** Keywords ***
Make A Server To Be Resized
    [Documentation]    Create a server of the smaller flavor, with data in it, and with data in the label area.
    Take A Host With Nova's Namespaces
    ${smaller} =    Create Flavor    smaller    hw:pmem=SMALL
    ${larger} =    Create Flavor    larger    hw:pmem=4GB,SMALL
    ${server} =    Create Server    ${smaller}
    VAR    ${SERVER} =    ${server}    scope=SUITE
    VAR    ${LARGER} =    ${larger}    scope=SUITE
    VAR    ${OLD} =    ${server.claims[0].namespace}    scope=SUITE
    Write Into All Of Server    ${SERVER}    seed=old data
