*** Settings ***
Documentation     Nova's own test of resizing on one host, on real namespaces, and what becomes of the content.

Resource          ../resources/server.resource

Suite Setup       Make A Server To Be Resized
Suite Teardown    Give The Servers Back

Test Tags         nv-03


*** Test Cases ***
A Resize Holds The Old And The New Together
    [Documentation]    Nova's test_resize_same_host: in VERIFY_RESIZE both namespaces of SMALL are held, and the one
    ...    of 4GB. Content is not copied: the new namespaces hold zeros.
    Resize Server    ${SERVER}    ${LARGER}
    Get Server Status    ${SERVER}    ==    VERIFY_RESIZE
    Server Should Have    ${SERVER}    4GB    SMALL
    Namespace Should Be Locked    ${OLD}
    Get Pmem Used    SMALL    ==    2
    Get Pmem Used    4GB    ==    1
    Should Not Be Equal    ${SERVER.claims[1].namespace.uuid}    ${OLD.uuid}
    Content Should Be Zero    ${SERVER.claims[1].namespace}

A Revert Gives The Old Data Back And Wipes The New
    [Documentation]    The guest reads its pattern again; what it wrote meanwhile is zeros, to the last byte of each.
    [Tags]    nv-07
    VAR    ${new} =    ${SERVER.claims}
    Write Into All Of Server    ${SERVER}    seed=in the new one
    Revert Resize    ${SERVER}
    Get Server Status    ${SERVER}    ==    ACTIVE
    Server Should Have    ${SERVER}    SMALL
    Guest Pattern Should Be Intact    ${SERVER.guest}    seed=old data    length=4MiB
    Label Area Should Begin With    ${OLD}    label
    Get Pmem Used    SMALL    ==    1
    Every Byte Should Be Zero    ${new}

A Confirm Keeps The New And Wipes The Old
    [Documentation]    The old namespace is zeros, its label area too, and free; the new data is the guest's.
    [Tags]    nv-07
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

A Resize To What The Host Cannot Give Leaves The Server As It Was
    [Documentation]    It runs on: the same QEMU, the same namespaces. What could have been met is not held.
    ${process} =    Get Guest Process    ${SERVER.guest}
    ${other} =    Create Flavor    twice    hw:pmem=SMALL,4GB
    Run Keyword And Expect Error    All that meets label 4GB*is held*    Resize Server    ${SERVER}    ${other}
    Get Guest Process    ${SERVER.guest}    ==    ${process}
    Server Should Have    ${SERVER}    4GB    SMALL
    Get Pmem Used    SMALL    ==    1


*** Keywords ***
Make A Server To Be Resized
    [Documentation]    One server of the smaller flavor, with data in it and what its kernel wrote into the label area.
    Take A Host With Nova's Namespaces
    ${smaller} =    Create Flavor    smaller    hw:pmem=SMALL
    ${larger} =    Create Flavor    larger    hw:pmem=4GB,SMALL
    ${server} =    Create Server    ${smaller}
    VAR    ${SERVER} =    ${server}    scope=SUITE
    VAR    ${LARGER} =    ${larger}    scope=SUITE
    VAR    ${OLD} =    ${server.claims[0].namespace}    scope=SUITE
    Write Into All Of Server    ${SERVER}    seed=old data
