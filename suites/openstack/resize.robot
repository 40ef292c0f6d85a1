*** Settings ***
Documentation     Nova's own functional test of a resize on the same host, with a revert, and what became of each byte.

Resource          ../../resources/cloud.resource

Suite Setup       Take The Cloud
Suite Teardown    Give The Cloud Back
Test Teardown     Clean Up After A Move

Test Tags         openstack


*** Test Cases ***
A Reverted Resize Keeps The Old Namespace And Wipes The New Ones
    [Documentation]    Until the revert, the server holds its old namespace and the two new ones. Afterwards the server
    ...    has its old namespace and its data, and the new namespaces have only zeros.
    [Tags]    nv-03    nv-07    os-03
    [Setup]    Skip Unless The Host Is Alone In Its Zone
    ${small} =    Create Flavor    small    hw:pmem=SMALL
    ${both} =    Create Flavor    both    hw:pmem=4GB,SMALL
    ${server} =    Create An Active Server    ${small}    resized
    ${old} =    Get Namespaces Of Server    ${server}
    Server Has Written    ${server}    ${old}[0]    seed=before the resize
    ${new} =    Server Is Resized And Has Written    ${server}    ${both}
    Server Is Back On    ${server}    ${old}[0]
    Content Should Be Zero    ${new}[0]
    Content Should Be Zero    ${new}[1]


*** Keywords ***
Server Is Resized And Has Written
    [Documentation]    Resize the server to a flavor with a namespace of each label, and write to both. Return the new
    ...    namespaces. Fail unless placement counts the old namespace too.
    [Arguments]    ${server}    ${flavor}
    Resize Server    ${server}    ${flavor}
    Server Should Become    ${server}    VERIFY_RESIZE
    Server Should Use    ${server}    4GB    SMALL
    Get Placement Used    SMALL    ==    2
    ${new} =    Get Namespaces Of Server    ${server}
    Server Has Written    ${server}    ${new}[0]    seed=in the large one
    Server Has Written    ${server}    ${new}[1]    seed=in the small one
    RETURN    ${new}

Server Is Back On
    [Documentation]    Revert the resize. Fail unless the server has its old namespace with its data, and placement
    ...    counts no other.
    [Arguments]    ${server}    ${old}
    Revert Resize    ${server}
    Server Should Become    ${server}    ACTIVE
    Server Should Use    ${server}    SMALL
    ${found} =    Get Namespaces Of Server    ${server}
    Should Be Equal    ${found[0].uuid}    ${old.uuid}
    Wait Until Keyword Succeeds    30 s    1 s    Get Placement Used    SMALL    ==    1
    Get Placement Used    4GB    ==    0
    ${guest} =    Get Server Guest    ${server}
    Guest Pattern Should Be Intact    ${guest}    ${old}    seed=before the resize    length=4MiB
    Host Should Hold Guest Pattern    ${guest}    ${old}    seed=before the resize    length=4MiB
