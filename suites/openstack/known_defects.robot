*** Settings ***
Documentation     What Nova does wrong with the data of servers. Each test asserts what Nova does today and is named for
...               it, so that a fix in Nova turns the test red. docs/nova-findings.md has the details.

Resource          ../../resources/cloud.resource

Suite Setup       Take The Cloud
Suite Teardown    Give The Cloud Back
Test Teardown     Clean Up And Wait For Placement

Test Tags         openstack    defect


*** Test Cases ***
Stopping A Server Wipes Its Namespace
    [Documentation]    Nova reaches the wipe of a deletion when it starts a stopped server
    ...    (nova/virt/libvirt/driver.py, power_on). Operators: keep no data in vPMEM that must outlive a stop.
    [Tags]    nv-09    os-07
    ${flavor} =    Create Flavor    small    hw:pmem=SMALL
    ${server} =    Create An Active Server    ${flavor}    stopped
    ${namespaces} =    Get Namespaces Of Server    ${server}
    Server Has Written    ${server}    ${namespaces}[0]    seed=before the stop
    Stop Server    ${server}
    Server Should Become    ${server}    SHUTOFF
    Start Server    ${server}
    Server Should Become    ${server}    ACTIVE
    Content Of The Guest Should Be Zero    ${server}    ${namespaces}[0]

A Hard Reboot Wipes A Server's Namespace
    [Documentation]    Nova makes the domain again by the steps of a deletion (nova/virt/libvirt/driver.py,
    ...    _hard_reboot). Operators: allow soft reboots alone.
    [Tags]    nv-09    os-07
    ${server}    ${namespace} =    Create A Server With A Pattern    reset    seed=before the reboot
    Reboot Server    ${server}    hard=True
    Server Should Become    ${server}    ACTIVE
    Server Should Read Zeros    ${server}    ${namespace}

A Label In Another Case Gives No Device But Holds A Namespace
    [Documentation]    The resource class that Nova asks placement for is upper case, but Nova compares the label as it
    ...    is (nova/virt/libvirt/driver.py, _get_ordered_vpmem_resources). Operators: check the case of `hw:pmem`.
    [Tags]    nv-05    os-05
    ${flavor} =    Create Flavor    other case    hw:pmem=small
    ${server} =    Create An Active Server    ${flavor}    without
    Placement Should Hold    ${server}    SMALL
    ${guest} =    Get Server Guest    ${server}
    ${devices} =    Get Guest Devices    ${guest}
    Should Be Empty    ${devices}

Confirming A Resize Leaves The Old Namespace With Its Data To The Next Server
    [Documentation]    Nova wipes the old namespaces by a field of the server that does not exist
    ...    (nova/virt/libvirt/driver.py, _cleanup_resize). Operators: forbid resizes of servers with vPMEM, or wipe a
    ...    namespace before it is given out.
    [Tags]    nv-07    os-08
    [Setup]    Skip Unless The Host Is Alone In Its Zone
    ${small} =    Create Flavor    small    hw:pmem=SMALL
    ${server} =    Create An Active Server    ${small}    resized
    ${namespaces} =    Get Namespaces Of Server    ${server}
    Server Has Written    ${server}    ${namespaces}[0]    seed=before the resize
    Server Has Confirmed A Resize To Both    ${server}
    Server Should Use    ${server}    4GB    SMALL
    ${next} =    Create An Active Server    ${small}    next tenant
    The Next Server Should Read    ${next}    ${namespaces}[0]    seed=before the resize
    [Teardown]    Clean Up After A Move

The Namespace Of A Resized And Deleted Server Is Not Given Out Until The Next Audit
    [Documentation]    A revert removes the server from those that nova-compute tracks
    ...    (nova/compute/resource_tracker.py, _drop_move_claim), so its delete frees the namespace in placement alone.
    ...    The next server that needs it is in ERROR. The lab's cloud has an audit each 15 minutes and when nova-compute
    ...    starts. Operators: create the server again after an audit (`update_resources_interval`).
    [Tags]    os-03
    [Setup]    Skip Unless The Lab's Host Is Alone In Its Zone
    Delete A Server That Has Reverted A Resize
    ${two} =    Create Flavor    two    hw:pmem=SMALL,SMALL
    ${refused} =    Request Server    ${two}    refused
    Server Should Become    ${refused}    ERROR    timeout=5 minutes
    Get Placement Used    SMALL    ==    0
    Stop Nova Compute
    Nova Compute Is Started Again
    ${server} =    Create An Active Server    ${two}    after the audit
    Server Should Use    ${server}    SMALL    SMALL

The Data Of A Server Outlives A Reboot Of Its Host But Not The Next Start
    [Documentation]    Nova starts the server by the steps of a hard reboot (nova/virt/libvirt/driver.py, power_on and
    ...    resume_state_on_host_boot). Operators: save the data from the namespace before the server is started.
    [Tags]    os-07
    [Setup]    Skip Unless The Cloud Is The Lab's
    ${server}    ${namespace} =    Create A Server With A Pattern    on lost host    seed=before the host's reboot
    Reboot Host    foreign=True
    The Cloud Has The Host Again
    Server Should Become    ${server}    SHUTOFF
    ${guest} =    Get Server Guest    ${server}
    Host Should Hold Guest Pattern    ${guest}    ${namespace}    seed=before the host's reboot    length=4MiB
    Start Server    ${server}
    Server Should Become    ${server}    ACTIVE
    Server Should Read Zeros    ${server}    ${namespace}


*** Keywords ***
Skip Unless The Lab's Host Is Alone In Its Zone
    [Documentation]    Skip if the server could move to another host, or if the cloud is not the lab's.
    Skip Unless The Cloud Is The Lab's
    Skip Unless The Host Is Alone In Its Zone

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

Content Of The Guest Should Be Zero
    [Documentation]    Fail unless the namespace has only zeros, as the host reads it while the server runs.
    [Arguments]    ${server}    ${namespace}
    ${guest} =    Get Server Guest    ${server}
    Wait Until Guest Is Ready    ${guest}
    Content Should Be Zero    ${namespace}    length=4MiB

The Next Server Should Read
    [Documentation]    Fail unless the server has this namespace, and its guest finds the pattern of the other server.
    [Arguments]    ${server}    ${namespace}    ${seed}
    ${found} =    Get Namespaces Of Server    ${server}
    Should Be Equal    ${found[0].uuid}    ${namespace.uuid}
    ${guest} =    Get Server Guest    ${server}
    Wait Until Guest Is Ready    ${guest}
    Guest Pattern Should Be Intact    ${guest}    ${namespace}    seed=${seed}    length=4MiB
