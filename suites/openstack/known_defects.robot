*** Settings ***
Documentation     What Nova does wrong with the data of servers. Each test asserts what Nova does today and is named for
...               it, so that a fix in Nova turns the test red. docs/nova-findings.md has the details.
...
...               One server serves most tests. A test that fails leaves a new one to the next test.

Resource          ../../resources/cloud.resource

Suite Setup       Take The Cloud With A Server
Suite Teardown    Give The Cloud Back
Test Teardown     Run Keyword If Test Failed    Replace The Server

Test Tags         openstack    defect


*** Test Cases ***
Stopping A Server Wipes Its Namespace
    [Documentation]    Nova reaches the wipe of a deletion when it starts a stopped server
    ...    (nova/virt/libvirt/driver.py, power_on). Operators: keep no data in vPMEM that must outlive a stop.
    [Tags]    nv-09    os-07
    Server Has Written    ${SERVER}    ${NAMESPACE}    seed=before the stop
    Stop Server    ${SERVER}
    Server Should Become    ${SERVER}    SHUTOFF
    Start Server    ${SERVER}
    Server Should Become    ${SERVER}    ACTIVE
    Server Should Read Zeros    ${SERVER}    ${NAMESPACE}

A Hard Reboot Wipes A Server's Namespace
    [Documentation]    Nova makes the domain again by the steps of a deletion (nova/virt/libvirt/driver.py,
    ...    _hard_reboot). Operators: allow soft reboots alone.
    [Tags]    nv-09    os-07
    Server Has Written    ${SERVER}    ${NAMESPACE}    seed=before the reboot
    Reboot Server    ${SERVER}    hard=True
    Server Should Become    ${SERVER}    ACTIVE
    Server Should Read Zeros    ${SERVER}    ${NAMESPACE}

A Label In Another Case Gives No Device But Holds A Namespace
    [Documentation]    The resource class that Nova asks placement for is upper case, but Nova compares the label as it
    ...    is (nova/virt/libvirt/driver.py, _get_ordered_vpmem_resources). Operators: check the case of `hw:pmem`.
    [Tags]    nv-05    os-05
    ${flavor} =    Create Flavor    other case    hw:pmem=small
    ${other} =    Create An Active Server    ${flavor}    without
    Placement Should Hold    ${other}    SMALL
    ${guest} =    Get Server Guest    ${other}
    ${devices} =    Get Guest Devices    ${guest}
    Should Be Empty    ${devices}
    Delete Server    ${other}
