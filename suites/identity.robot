*** Settings ***
Documentation     A guest's device keeps its identity: its labels, the namespace in it, and its bytes.
...
...               A guest creates a namespace in its device and writes to it. Each test changes the guest, libvirt or
...               the host, and then checks the device from both sides.

Resource          ../resources/guest.resource

Suite Setup       Make A Namespace In A Guest
Suite Teardown    Give The Host Back
Test Setup        Guest Has The Device In Its First Slot
Test Teardown     Return To The Host

Test Tags         ps-08


*** Variables ***
${SEED}          written in the guest's own namespace
${LENGTH}        8MiB
# With a label area of 128KiB this leaves a region of 64MiB. Namespaces of every mode fit in such a region.
${SIZE}          66MiB
${LABEL_SIZE}    128KiB


*** Test Cases ***
The Host Reads The Guest's Labels
    [Documentation]    The host decodes the labels at the end of its namespace. They match the labels of the guest's
    ...    kernel.
    [Tags]    ps-07
    Host Should Hold Guest Labels    ${GUEST}    ${NAMESPACE}
    Device Should Be Itself

The Device Keeps Its Identity After A Guest Reboot
    [Documentation]    The guest's kernel boots again.
    [Tags]    ps-01
    ${before} =    Get Guest Boot Id    ${GUEST}
    Reboot Guest    ${GUEST}
    Get Guest Boot Id    ${GUEST}    !=    ${before}
    Device Should Be Itself

The Device Keeps Its Identity After A Managed Save And Restore
    [Documentation]    A new QEMU continues the same boot of the guest's kernel.
    [Tags]    ps-03    sv-01
    ${boot} =    Get Guest Boot Id    ${GUEST}
    ${process} =    Get Guest Process    ${GUEST}
    Save Guest    ${GUEST}
    Get Guest State    ${GUEST}    ==    shut off
    Host Should Hold Guest Pattern    ${GUEST}    ${NAMESPACE}    seed=${SEED}    length=${LENGTH}
    Start Guest    ${GUEST}
    Get Guest Process    ${GUEST}    !=    ${process}
    Get Guest Boot Id    ${GUEST}    ==    ${boot}
    Device Should Be Itself

The Device Keeps Its Identity After A Restart Of libvirt's Daemon
    [Documentation]    The daemon is a new process. The guest's QEMU and boot are the same.
    [Tags]    ps-04
    ${process} =    Get Guest Process    ${GUEST}
    ${boot} =    Get Guest Boot Id    ${GUEST}
    ${before} =    Get Output Of Host    pidof    libvirtd
    Run On Host    systemctl    restart    libvirtd.service
    ${after} =    Get Output Of Host    pidof    libvirtd
    Should Not Be Equal    ${after}    ${before}
    Get Guest Process    ${GUEST}    ==    ${process}
    Wait Until Guest Is Ready    ${GUEST}
    Get Guest Boot Id    ${GUEST}    ==    ${boot}
    Device Should Be Itself

A Running Guest Is Not Undefined
    [Documentation]    libvirt itself would undefine the guest, and the guest would be gone after it ends.
    [Tags]    ps-06
    Run Keyword And Expect Error    *is running on *so it was not undefined*    Undefine Guest    ${GUEST}
    ${xml} =    Get Output Of Host    virsh    dumpxml    --inactive    ${GUEST.name}
    Should Contain    ${xml}    ${NAMESPACE.device}

The Device Keeps Its Identity Under A New Guest Name
    [Documentation]    The guest is undefined. A new guest is defined on the same namespace.
    [Tags]    ps-06
    Stop Guest    ${GUEST}    how=destroy
    Undefine Guest    ${GUEST}
    VAR    ${before} =    ${GUEST.name}
    Start Another Guest    ${NAMESPACE}
    Should Not Be Equal    ${GUEST.name}    ${before}
    Device Should Be Itself

The Device Keeps Its Identity In A Guest With Two Devices
    [Documentation]    The backing moves to a guest that has a second device, and is recognised there.
    [Tags]    ps-09
    Stop Guest    ${GUEST}    how=destroy
    Start Another Guest    ${NAMESPACE}    ${NEIGHBOUR}
    Device Should Be Itself

The Device Keeps Its Identity In A Different Slot
    [Documentation]    The bytes are the same and the host recognises them, but QEMU's NVDIMM is in a different
    ...    interleave set.
    [Tags]    ps-09
    Stop Guest    ${GUEST}    how=destroy
    Start Another Guest    ${NEIGHBOUR}    ${NAMESPACE}
    ${device} =    Get Guest Device    ${GUEST}    backing=${NAMESPACE}
    Should Be Equal As Integers    ${device.slot}    1
    ${now} =    Get Device Identity    ${GUEST}    ${NAMESPACE}
    Should Be Equal    ${now}    ${IDENTITY}
    Run Keyword And Expect Error    *they were written in interleave set*put the device back into its former slot*
    ...    Host Should Hold Guest Labels    ${GUEST}    ${NAMESPACE}

The Device Keeps Its Identity After A Host Reboot
    [Documentation]    The namespace is found by its UUID. Its device node may have a new name.
    [Tags]    ps-05
    Skip Unless The Host May Be Rebooted
    Stop Guest    ${GUEST}
    ${before} =    Get Host Boot Id
    Reboot Host
    ${after} =    Get Host Boot Id
    Should Not Be Equal    ${after}    ${before}
    ${found} =    Get Namespace    ${NAMESPACE.label_uuid}
    Start Another Guest    ${found}
    Device Should Be Itself


*** Keywords ***
Make A Namespace In A Guest
    [Documentation]    Create two namespaces on the host, and start a guest on the first one. Create a namespace with a
    ...    pattern in the guest.
    Take A Fitting Host Or Skip    mapping    labels
    ${aliases} =    Get Open Hosts
    VAR    ${OUTSIDE} =    ${aliases}[0]    scope=SUITE
    Create Two Namespaces Of Known Content
    Start Another Guest    ${NAMESPACE}
    Make The Inner Namespace
    ${identity} =    Get Device Identity    ${GUEST}    ${NAMESPACE}
    VAR    ${IDENTITY} =    ${identity}    scope=SUITE

Create Two Namespaces Of Known Content
    [Documentation]    Create a namespace with zeros, so that it has no data of an earlier guest, and a namespace with a
    ...    pattern.
    ${namespace} =    Create Devdax Namespace    80MiB    kept
    ${neighbour} =    Create Devdax Namespace    80MiB    neighbour    region=${namespace.region}
    Wipe Content    ${namespace}
    Write Pattern    ${neighbour}    seed=the neighbour    length=${LENGTH}
    VAR    ${NAMESPACE} =    ${namespace}    scope=SUITE
    VAR    ${NEIGHBOUR} =    ${neighbour}    scope=SUITE

Start Another Guest
    [Documentation]    Start a guest that has a device with a small label area on each namespace, in that order.
    [Arguments]    @{namespaces}
    VAR    @{devices} =    @{EMPTY}
    FOR    ${namespace}    IN    @{namespaces}
        ${device} =    New Vpmem Device    ${namespace}    size=${SIZE}    label_size=${LABEL_SIZE}
        VAR    @{devices} =    @{devices}    ${device}
    END
    ${guest} =    Start New Guest    vpmem=${devices}
    VAR    ${GUEST} =    ${guest}    scope=SUITE

Make The Inner Namespace
    [Documentation]    Create labels, a raw namespace as large as the region, and a pattern in this namespace.
    Open Guest As Host    ${GUEST}    alias=inside
    ${regions} =    Get Regions
    Initialize Labels    ${regions}[0]
    ${made} =    Create Namespace    ${regions}[0]    mode=raw    size=at least 64MiB    name=inner
    Write Pattern    ${made}    seed=${SEED}    length=${LENGTH}
    VAR    ${INNER} =    ${made}    scope=SUITE
    Return To The Host

Guest Has The Device In Its First Slot
    [Documentation]    Start another guest, unless the guest runs with the device in its first slot.
    ${state} =    Get Guest State    ${GUEST}
    IF    $state == 'running'
        ${device} =    Get Guest Device    ${GUEST}    backing=${NAMESPACE}
        IF    $device.slot == 0    RETURN
        Stop Guest    ${GUEST}    how=destroy
    END
    Start Another Guest    ${NAMESPACE}

Device Should Be Itself
    [Documentation]    Check from host and guest that the device's identity, the namespace in it and its bytes are
    ...    unchanged.
    ${now} =    Get Device Identity    ${GUEST}    ${NAMESPACE}
    Should Be Equal    ${now}    ${IDENTITY}
    Host Should Hold Guest Labels    ${GUEST}    ${NAMESPACE}
    Host Should Hold Guest Pattern    ${GUEST}    ${NAMESPACE}    seed=${SEED}    length=${LENGTH}
    Pattern Should Be Intact    ${NEIGHBOUR}    seed=the neighbour    length=${LENGTH}
    Open Guest As Host    ${GUEST}    alias=inside
    Namespace With Pattern Should Be As Before    ${INNER}    length=${LENGTH}    seed=${SEED}
    Return To The Host

Return To The Host
    [Documentation]    Make the taken host the current host, and close the guest if it is open as a host.
    ${aliases} =    Get Open Hosts
    IF    'inside' in $aliases    Close Host    inside
    Switch Host    ${OUTSIDE}
