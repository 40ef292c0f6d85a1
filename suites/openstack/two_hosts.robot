*** Settings ***
Documentation     Servers that move between two compute hosts, and what became of each byte.
...
...               The tests with the tag `defect` assert what Nova does wrong; docs/nova-findings.md has the details.

Resource          ../../resources/cloud.resource
Resource          ../../resources/other_runs.resource

Suite Setup       Take The Cloud With Two Hosts Or Skip
Suite Teardown    Give The Cloud Back
Test Teardown     Clean Up After A Move

Test Tags         openstack


*** Test Cases ***
A Reverted Resize To Another Host Keeps The Old Namespace And Wipes The New Ones
    [Documentation]    Nova's test_resize. Until the revert, the server holds its old namespace on the first host and
    ...    the new ones on the second host.
    [Tags]    nv-02    nv-07    os-02
    ${server}    ${old} =    Create A Server With A Pattern    reverted    seed=before the resize    host=${FIRST_NAME}
    ${new} =    Server Is Resized To The Second Host And Has Written    ${server}
    Old Namespace Should Be Held With Its Data    ${old}    seed=before the resize
    Revert Resize    ${server}
    Server Should Become    ${server}    ACTIVE
    Server Should Use    ${server}    SMALL
    Server Should Read    ${server}    ${old}    seed=before the resize
    Switch Host    ${SECOND}
    Content Should Be Zero    ${new}[0]
    Content Should Be Zero    ${new}[1]

Confirming A Resize To Another Host Leaves The Old Namespace With Its Data To The Next Server
    [Documentation]    As on one host, Nova does not find the old namespaces (nova/virt/libvirt/driver.py,
    ...    _get_resources). The new namespaces keep their data. Operators: forbid resizes of servers with vPMEM, or
    ...    wipe a namespace before it is given out.
    [Tags]    defect    nv-02    nv-07    os-02
    ${server}    ${old} =    Create A Server With A Pattern
    ...    confirmed
    ...    seed=before the resize
    ...    host=${FIRST_NAME}
    ${new} =    Server Is Resized To The Second Host And Has Written    ${server}
    Confirm Resize    ${server}
    Server Should Become    ${server}    ACTIVE
    Server Should Use    ${server}    SMALL    SMALL
    Both Namespaces Should Have Their Data    ${server}    ${new}
    The Next Server On The First Host Should Read    ${old}    seed=before the resize

The Host Of An Evacuated Server Wipes By The Names Of The Server's New Namespaces
    [Documentation]    When nova-compute comes back, it cleans up the server's domain, but the server has its new
    ...    namespaces already (nova/compute/manager.py, _destroy_evacuated_instances). So it wipes the namespace of the
    ...    same name, which another server uses, and leaves the data of the evacuated one to the next server.
    ...    Operators: undefine the domains of evacuated servers before nova-compute is started on their old host.
    [Tags]    os-09    defect
    [Setup]    Skip Unless The Cloud Is The Lab's
    ${taken} =    Name Of A Namespace In Use On The Second Host
    ${lost}    ${old}    ${other}    ${its} =    Servers Of The First Host With And Without The Name    ${taken}
    Server Has Written    ${lost}    ${old}    seed=before the loss
    Server Has Written    ${other}    ${its}    seed=of the neighbour
    Server Is Evacuated To    ${lost}    ${its.name}
    Server Should Have Namespace    ${other}    ${its}
    Content Should Be Zero    ${its}
    Pattern Should Be Intact    ${old}    seed=before the loss    length=4MiB
    Get Placement Used    SMALL    ==    1

A Live Migration Takes The Data Along And Wipes The Old Namespace
    [Documentation]    The same boot of the guest's kernel continues on the second host, with its data.
    [Tags]    os-11
    ${server}    ${old} =    Create A Server With A Pattern    migrated    seed=before it moved    host=${FIRST_NAME}
    ${before} =    Get Boot Id Of Server    ${server}
    Live Migrate Server    ${server}    host=${SECOND_NAME}
    Server Should Become    ${server}    ACTIVE
    Server Should Be On The Second Host With    ${server}    seed=before it moved
    ${after} =    Get Boot Id Of Server    ${server}
    Should Be Equal    ${after}    ${before}
    Switch Host    ${FIRST}
    Content Should Be Zero    ${old}
    Wait Until Keyword Succeeds    30 s    1 s    Get Placement Used    SMALL    ==    0

A Killed Run's Server And Flavor Are Deleted And A Living Run's Are Not
    [Documentation]    Another run creates both and is killed. Its namespace is wiped by the delete.
    [Tags]    ow-03
    [Setup]    Skip Unless The Cloud Is The Lab's
    Start Worker Suite    live_in_the_cloud    other    CLOUD=${CLOUD}    IMAGE=${IMAGE}    PLACE=${FIRST_NAME}
    Wait For Worker At    at-active    timeout=5 minutes
    ${living} =    Clean Up Cloud After Dead Runs
    Should Be Empty    ${living}
    Get Placement Used    SMALL    ==    1
    Kill Worker    other
    ${deleted} =    Clean Up Cloud After Dead Runs
    Length Should Be    ${deleted}    2
    Wait Until Keyword Succeeds    30 s    1 s    Get Placement Used    SMALL    ==    0
    [Teardown]    Run Keywords    End The Workers    AND    Clean Up And Wait For Placement


*** Keywords ***
Take The Cloud With Two Hosts Or Skip
    [Documentation]    Open the cloud and two compute hosts, and reserve both. Set `${FIRST}` and `${SECOND}` to their
    ...    aliases, and `${FIRST_NAME}` and `${SECOND_NAME}` to their names in Nova.
    ${names} =    Get Host Names    ${HOSTS}
    Skip If    len($names) < 2    Only one compute host is given: name a second one in the hosts file.
    VAR    ${FIRST} =    ${names}[0]    scope=SUITE
    VAR    ${SECOND} =    ${names}[1]    scope=SUITE
    FOR    ${host}    IN    ${FIRST}    ${SECOND}
        Open Host From File    ${HOSTS}    ${host}
        Reserve Host
    END
    Open The Cloud Of The Hosts
    Remember The Names In Nova

Remember The Names In Nova
    [Documentation]    Set `${FIRST_NAME}` and `${SECOND_NAME}`. The first host becomes the current host.
    Switch Host    ${SECOND}
    ${name} =    Get Hypervisor Host Name
    VAR    ${SECOND_NAME} =    ${name}    scope=SUITE
    Switch Host    ${FIRST}
    ${name} =    Get Hypervisor Host Name
    VAR    ${FIRST_NAME} =    ${name}    scope=SUITE

Server Is Resized To The Second Host And Has Written
    [Documentation]    Resize the server to a flavor with two namespaces of its label, and write to both. The first host
    ...    has only two, and one of them is the server's, so Nova has to choose the second host. Return the new ones.
    [Arguments]    ${server}
    ${two} =    Create Flavor    two    hw:pmem=SMALL,SMALL
    Resize Server    ${server}    ${two}
    Server Should Become    ${server}    VERIFY_RESIZE
    Server Should Use    ${server}    SMALL    SMALL
    Current Host Should Be The Second
    ${new} =    Get Namespaces Of Server    ${server}
    Server Has Written    ${server}    ${new}[0]    seed=in the first new one
    Server Has Written    ${server}    ${new}[1]    seed=in the second new one
    RETURN    ${new}

Current Host Should Be The Second
    [Documentation]    Fail unless the last server that was inspected is on the second host.
    ${current} =    Get Current Host
    Should Be Equal    ${current}    ${SECOND}

Both Namespaces Should Have Their Data
    [Documentation]    Fail unless the server's guest finds what it has written to both of its new namespaces.
    [Arguments]    ${server}    ${new}
    ${guest} =    Get Server Guest    ${server}
    Guest Pattern Should Be Intact    ${guest}    ${new}[0]    seed=in the first new one    length=4MiB
    Guest Pattern Should Be Intact    ${guest}    ${new}[1]    seed=in the second new one    length=4MiB

Old Namespace Should Be Held With Its Data
    [Documentation]    Fail unless placement counts the old namespace of the first host, and it still has the pattern.
    [Arguments]    ${old}    ${seed}
    Switch Host    ${FIRST}
    Get Placement Used    SMALL    ==    1
    Pattern Should Be Intact    ${old}    seed=${seed}    length=4MiB

The Next Server On The First Host Should Read
    [Documentation]    Create a server with both namespaces of the first host. Fail unless its guest finds the pattern
    ...    of the server that has left.
    [Arguments]    ${old}    ${seed}
    ${both} =    Create Flavor    next    hw:pmem=SMALL,SMALL
    ${next} =    Create An Active Server    ${both}    next    host=${FIRST_NAME}
    ${guest} =    Get Server Guest    ${next}
    Wait Until Guest Is Ready    ${guest}
    Guest Pattern Should Be Intact    ${guest}    ${old}    seed=${seed}    length=4MiB

Name Of A Namespace In Use On The Second Host
    [Documentation]    Create a server with one of the two namespaces of the second host. Return the namespace's name.
    ${flavor} =    Create Flavor    filler    hw:pmem=SMALL
    ${server} =    Create An Active Server    ${flavor}    filler    host=${SECOND_NAME}
    ${found} =    Get Namespaces Of Server    ${server}
    RETURN    ${found[0].name}

Servers Of The First Host With And Without The Name
    [Documentation]    Create servers with the two namespaces of the first host. Return the one whose namespace has this
    ...    name, its namespace, and the other one with its namespace.
    [Arguments]    ${name}
    ${flavor} =    Create Flavor    of the first host    hw:pmem=SMALL
    FOR    ${number}    IN    1    2
        ${server} =    Create An Active Server    ${flavor}    ${number}    host=${FIRST_NAME}
        ${found} =    Get Namespaces Of Server    ${server}
        IF    $found[0].name == $name
            VAR    @{with} =    ${server}    ${found}[0]
        ELSE
            VAR    @{without} =    ${server}    ${found}[0]
        END
    END
    RETURN    @{with}    @{without}

Server Is Evacuated To
    [Documentation]    Stop nova-compute of the first host, and evacuate the server. Fail unless it is on the second
    ...    host with the namespace of this name. Start nova-compute of the first host again.
    [Arguments]    ${server}    ${name}
    Switch Host    ${FIRST}
    Stop Nova Compute
    Set Compute Service Down
    TRY
        Evacuate Server    ${server}
        Server Should Become    ${server}    SHUTOFF
        # Nova stops the new domain before it gives the server its new host.
        Wait Until Keyword Succeeds    1 min    1 s
        ...    Stopped Server Should Be On The Second Host    ${server}    ${name}
    FINALLY
        Switch Host    ${FIRST}
        Nova Compute Is Started Again
        Set Compute Service Up
    END

Stopped Server Should Be On The Second Host
    [Documentation]    Fail unless the server's domain is on the second host, with the namespace of this name.
    [Arguments]    ${server}    ${name}
    ${found} =    Get Namespaces Of Server    ${server}
    Current Host Should Be The Second
    Should Be Equal    ${found[0].name}    ${name}

Get Boot Id Of Server
    [Documentation]    Return the id of the boot of the server's guest.
    [Arguments]    ${server}
    ${guest} =    Get Server Guest    ${server}
    Wait Until Guest Is Ready    ${guest}
    ${boot} =    Get Guest Boot Id    ${guest}
    RETURN    ${boot}

Server Should Be On The Second Host With
    [Documentation]    Fail unless the server is on the second host, and its guest and its host find the pattern.
    [Arguments]    ${server}    ${seed}
    Server Should Use    ${server}    SMALL
    Current Host Should Be The Second
    ${found} =    Get Namespaces Of Server    ${server}
    Server Should Read    ${server}    ${found}[0]    seed=${seed}
