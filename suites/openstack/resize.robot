*** Settings ***
Documentation     Resizes on the same host, with a revert as in Nova's own functional test or with a confirm, and what
...               became of each byte.
...
...               The tests with the tag `defect` assert what Nova does wrong; docs/nova-findings.md has the details.

Resource          ../../resources/cloud.resource

Suite Setup       Take The Cloud For Resizes On One Host Or Skip
Suite Teardown    Give The Cloud Back
Test Teardown     Clean Up After A Move

Test Tags         openstack


*** Test Cases ***
A Reverted Resize Keeps The Old Namespace And Wipes The New Ones
    [Documentation]    Until the revert, the server holds its old namespace and the two new ones. Afterwards the server
    ...    has its old namespace and its data, and the new namespaces have only zeros.
    [Tags]    nv-03    nv-07    os-03
    ${server}    ${old} =    Create A Server With A Pattern    resized    seed=before the resize
    ${both} =    Create Flavor    both    hw:pmem=4GB,SMALL
    ${new} =    Server Is Resized And Has Written    ${server}    ${both}
    Server Is Back On    ${server}    ${old}
    Content Should Be Zero    ${new}[0]
    Content Should Be Zero    ${new}[1]

Confirming A Resize Leaves The Old Namespace With Its Data To The Next Server
    [Documentation]    Nova wipes the old namespaces by a field of the server that does not exist
    ...    (nova/virt/libvirt/driver.py, _cleanup_resize). Operators: forbid resizes of servers with vPMEM, or wipe a
    ...    namespace before it is given out.
    [Tags]    defect    nv-07    os-08
    ${server}    ${old} =    Create A Server With A Pattern    resized    seed=before the resize
    Server Has Confirmed A Resize To Both    ${server}
    Server Should Use    ${server}    4GB    SMALL
    ${small} =    Create Flavor    small    hw:pmem=SMALL
    ${next} =    Create An Active Server    ${small}    next tenant
    The Next Server Should Read    ${next}    ${old}    seed=before the resize

The Namespace Of A Resized And Deleted Server Is Not Given Out Until The Next Audit
    [Documentation]    A revert removes the server from those that nova-compute tracks
    ...    (nova/compute/resource_tracker.py, _drop_move_claim), so its delete frees the namespace in placement alone.
    ...    The next server that needs it is in ERROR. The lab's cloud has an audit each 15 minutes and when nova-compute
    ...    starts. Operators: create the server again after an audit (`update_resources_interval`).
    [Tags]    defect    os-03
    [Setup]    Skip Unless The Cloud Is The Lab's
    Delete A Server That Has Reverted A Resize
    ${two} =    Create Flavor    two    hw:pmem=SMALL,SMALL
    ${refused} =    Request Server    ${two}    refused
    Server Should Become    ${refused}    ERROR    timeout=5 minutes
    Get Placement Used    SMALL    ==    0
    Stop Nova Compute
    Nova Compute Is Started Again
    ${server} =    Create An Active Server    ${two}    after the audit
    Server Should Use    ${server}    SMALL    SMALL
    [Teardown]    Run Keywords    Clean Up And Wait For Placement
    ...    AND    Run Keyword If Test Failed    Nova Compute Is Started Again On Each Host


*** Keywords ***
Take The Cloud For Resizes On One Host Or Skip
    [Documentation]    Take the cloud. Skip if a resize could move a server to another compute host: the suite two_hosts
    ...    has such tests.
    Take The Cloud
    Skip If    not $ZONE
    ...    The server could move to another compute host: put the host alone into an availability zone.

Delete A Server That Has Reverted A Resize
    [Documentation]    Create a server with one namespace, resize it to a flavor with a namespace of each label, revert,
    ...    and delete it. Wait until placement counts its namespace as free.
    ${small} =    Create Flavor    small    hw:pmem=SMALL
    ${both} =    Create Flavor    both    hw:pmem=4GB,SMALL
    ${server} =    Create An Active Server    ${small}    reverted
    Resize Server    ${server}    ${both}
    Server Should Become    ${server}    VERIFY_RESIZE
    Revert Resize    ${server}
    Server Should Become    ${server}    ACTIVE
    Delete Server    ${server}
    Wait Until Keyword Succeeds    30 s    1 s    Get Placement Used    SMALL    ==    0

Server Has Confirmed A Resize To Both
    [Documentation]    Resize a server to a flavor with a namespace of each label, and confirm.
    [Arguments]    ${server}
    ${both} =    Create Flavor    both    hw:pmem=4GB,SMALL
    Resize Server    ${server}    ${both}
    Server Should Become    ${server}    VERIFY_RESIZE
    Confirm Resize    ${server}
    Server Should Become    ${server}    ACTIVE

The Next Server Should Read
    [Documentation]    Fail unless the server has this namespace, and its guest finds the pattern of the other server.
    [Arguments]    ${server}    ${namespace}    ${seed}
    ${found} =    Get Namespaces Of Server    ${server}
    Should Be Equal    ${found[0].uuid}    ${namespace.uuid}
    ${guest} =    Get Server Guest    ${server}
    Wait Until Guest Is Ready    ${guest}
    Guest Pattern Should Be Intact    ${guest}    ${namespace}    seed=${seed}    length=4MiB

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
