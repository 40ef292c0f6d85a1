*** Settings ***
Documentation     A guest on device DAX: what was asked for, libvirt, QEMU and the guest's kernel tell the same story.
...
...               One guest with three devices of different sizes is booted once and shared by the tests.

Resource          ../resources/guest.resource

Suite Setup       Boot A Guest With Three Devices
Suite Teardown    Give The Host Back

Test Tags         smoke


*** Test Cases ***
All Views Of Every Device Agree
    [Documentation]    Path, size, alignment, label, pmem, share and node in five independent views.
    [Tags]    gd-01
    All Views Should Agree    ${GUEST}

The Guest Sees Each Device Less Its Label Area
    [Documentation]    A region of the predicted size for every device, on the node asked for, with its block device.
    [Tags]    gb-01
    FOR    ${device}    IN    @{GUEST.devices}
        ${predicted} =    Get Predicted Guest Region Size    ${device}
        Get Guest Region Size    ${GUEST}    ${device}    ==    ${predicted}
    END
    ${regions} =    Get Guest Regions    ${GUEST}
    FOR    ${region}    IN    @{regions}
        Should Be Equal    ${region.provider}    ACPI.NFIT
        Should Be Equal As Integers    ${region.numa_node}    0
        Run In Guest    ${GUEST}    test    -b    /dev/${region.namespaces[0].blockdev}
    END

Ram And Persistent Memory Are Told Apart
    [Documentation]    libvirt's info, XML and statistics, QEMU's monitor and the guest's kernel agree on both.
    [Tags]    gb-04
    Guest Memory Should Agree    ${GUEST}

Devices Are Matched By A Stable Key Rather Than By Order
    [Documentation]    A pattern written through the host's namespace is found in the guest's device of that handle.
    [Tags]    gb-03
    FOR    ${namespace}    IN    @{NAMESPACES}
        ${device} =    Get Guest Device    ${GUEST}    backing=${namespace}
        Write Pattern In Guest    ${GUEST}    ${device}    seed=${namespace.name}    length=4MiB
    END
    FOR    ${namespace}    IN    @{NAMESPACES}
        Host Should Hold Guest Pattern    ${GUEST}    ${namespace}    seed=${namespace.name}    length=4MiB
    END


*** Keywords ***
Boot A Guest With Three Devices
    [Documentation]    Three devdax namespaces of different sizes, one guest.
    Take A Host
    ${size} =    Get Smallest Size    64MiB
    ${small} =    Create Devdax Namespace    ${size}    small
    ${middle} =    Create Devdax Namespace    ${{2 * $size}}    middle
    ${large} =    Create Devdax Namespace    ${{4 * $size}}    large
    VAR    @{NAMESPACES} =    ${large}    ${small}    ${middle}    scope=SUITE
    ${guest} =    Start New Guest    vpmem=${NAMESPACES}    confined=True
    VAR    ${GUEST} =    ${guest}    scope=SUITE
