*** Settings ***
Documentation     A guest on device DAX. The requested device, libvirt, QEMU and the guest's kernel agree.
...
...               One guest with three devices of different sizes is booted once and shared by the tests.

Resource          ../resources/guest.resource

Suite Setup       Boot A Guest With Three Devices
Suite Teardown    Give The Host Back

Test Tags         smoke


*** Test Cases ***
All Views Of Every Device Agree
    [Documentation]    The path, size, alignment, label, pmem, share and node agree in five independent views.
    [Tags]    gd-01
    All Views Should Agree    ${GUEST}

The Guest Sees Each Device Without Its Label Area
    [Documentation]    Each device has a region of the predicted size on the requested node, and a block device.
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

RAM And Persistent Memory Are Distinguished
    [Documentation]    libvirt's info, XML and statistics, QEMU's monitor and the guest's kernel agree on both.
    [Tags]    gb-04
    Guest Memory Should Agree    ${GUEST}

Devices Are Matched By A Stable Key And Not By Order
    [Documentation]    A pattern that the guest writes to the device with that handle is found in the host's namespace.
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
    [Documentation]    Boot one guest on three devdax namespaces of different sizes.
    Take A Fitting Host Or Skip    mapping    labels
    ${size} =    Get Smallest Size    64MiB
    ${small} =    Create Devdax Namespace    ${size}    small
    ${twice} =    Multiply Size    ${size}    2
    ${middle} =    Create Devdax Namespace    ${twice}    middle
    ${four_times} =    Multiply Size    ${size}    4
    ${large} =    Create Devdax Namespace    ${four_times}    large
    VAR    @{NAMESPACES} =    ${large}    ${small}    ${middle}    scope=SUITE
    ${guest} =    Start New Guest    vpmem=${NAMESPACES}    confined=True
    VAR    ${GUEST} =    ${guest}    scope=SUITE
