*** Settings ***
Documentation     CXL memory. A persistent region is assembled from a CXL device. The keywords for any region create
...               namespaces in it, and the namespaces back guests. Poison is injected, listed and cleared.
...
...               A host without a CXL device gets a device while it runs, if its section of the hosts file says how.

Library           Collections
Resource          ../resources/guest.resource

Suite Setup       Take A Host With A CXL Device Or Skip
Suite Teardown    Give The Host And Its Device Back
Test Teardown     Clean Up Host


*** Variables ***
${ADDED}            ${False}
${OF_A_DEAD_RUN}    76706d65-6dde-8adb-8eef-0123456789ab
${NO_DEVICE}
...                 SEPARATOR=${SPACE}
...                 This host has no CXL device with persistent memory that is free, and its section of the hosts file
...                 says no host_cxl_add. Fix: a CXL type-3 device, or a command that adds it.


*** Test Cases ***
A Region Is Assembled From The Device And Destroyed
    [Documentation]    The region is a libnvdimm region as large as the device. The kernel's memory map contains it.
    [Tags]    cx-01
    ${region} =    Create Cxl Region    ${MEMDEV}
    Should Be Equal    ${region.provider}    CXL
    Should Be Equal    ${region.size}    ${MEMDEV.pmem_size}
    Get Region Property    ${region}    available size    ==    ${MEMDEV.pmem_size}
    ${assembled} =    Get Cxl Region    ${region}
    Region Should Be Assembled From The Device    ${assembled}
    Kernel Should Map    ${region}    ${True}
    Destroy Cxl Region    ${region}
    Kernel Should Map    ${region}    ${False}
    Run Keyword And Expect Error    No CXL region '${region.dev}'*    Get Cxl Region    ${region}

A Namespace On CXL Memory Backs A Guest
    [Documentation]    The keywords are the same as for any region, namespace and guest. The host finds the guest's
    ...    bytes.
    [Tags]    cx-01
    ${region} =    Create Cxl Region    ${MEMDEV}
    ${namespace} =    Create Devdax Namespace    64MiB    on-cxl    region=${region}
    Namespace Views Should Agree    ${namespace}
    ${guest} =    Start New Guest    vpmem=${namespace}
    All Views Should Agree    ${guest}
    Write Pattern In Guest    ${guest}    seed=on cxl    length=1MiB
    Stop Guest    ${guest}    how=destroy
    Host Should Hold Guest Pattern    ${guest}    ${namespace}    seed=on cxl    length=1MiB

The Content Of A Namespace Survives The Destruction Of Its Region
    [Documentation]    The device keeps the labels. A region that is assembled again has the namespace with the same
    ...    UUID.
    [Tags]    cx-01
    ${region} =    Create Cxl Region    ${MEMDEV}
    ${namespace} =    Create Devdax Namespace    16MiB    outlives    region=${region}
    Write Pattern    ${namespace}    seed=outlives    length=1MiB
    Disable Namespace    ${namespace}
    Destroy Cxl Region    ${region}
    Run Keyword And Expect Error    No namespace *    Get Namespace    ${namespace.label_uuid}
    Create Cxl Region    ${MEMDEV}
    Namespace With Pattern Should Be As Before    ${namespace}    length=1MiB

Invalid Requests Are Refused And Change Nothing
    [Documentation]    Destroying a region with active namespaces is refused. A part of a unit of poison or of size is
    ...    refused too.
    [Tags]    cx-01
    ${region} =    Create Cxl Region    ${MEMDEV}
    ${namespace} =    Create Namespace    ${region}    mode=fsdax    size=at least 64MiB    name=in-the-way
    Run Keyword And Expect Error    CXL region ${region.dev} is in use on *in-the-way*
    ...    Destroy Cxl Region    ${region}
    ${found} =    Get Namespace    ${namespace.label_uuid}
    Should Be Equal    ${found}    ${namespace}
    Run Keyword And Expect Error    offset '100B' cannot be used*    Inject Poison    ${MEMDEV}    offset=100
    Get Media Errors    ${MEMDEV}    ==    0
    Run Keyword And Expect Error    size '100MiB' cannot be used: expected a multiple of 256MiB*
    ...    Create Cxl Region    ${MEMDEV}    size=100MiB

The CXL Region Of A Dead Run Is Destroyed
    [Documentation]    The region has the mark of a run that is dead. Cleaning up after this run does not change the
    ...    region.
    [Tags]    ow-03
    ${region} =    Create Cxl Region With UUID    ${OF_A_DEAD_RUN}
    Clean Up Host
    Get Cxl Region    ${region}
    ${removed} =    Clean Up After Dead Runs
    Length Should Be    ${removed}    1
    Should Be Equal    ${removed}[0]    CXL region ${region} (${OF_A_DEAD_RUN}) of run deadbeef
    Run Keyword And Expect Error    No CXL region '${region}'*    Get Cxl Region    ${region}

Poison Is Listed And Cleared
    [Documentation]    The device lists the poison where it was injected. Clearing writes zeros there and changes no
    ...    other byte.
    [Tags]    cx-02
    ${region} =    Create Cxl Region    ${MEMDEV}
    ${namespace} =    Create Namespace    ${region}    mode=raw    size=at least 16MiB    name=poisoned
    Write Pattern    ${namespace}    seed=poisoned    length=64KiB
    ${before} =    Read Second Page    ${namespace}
    ${errors} =    Inject Poison    ${MEMDEV}    offset=4KiB
    Injected Error Should Be    ${errors}    offset=4096    length=64
    Clear Poison    ${MEMDEV}    offset=4KiB
    Get Media Errors    ${MEMDEV}    ==    0
    ${after} =    Read Second Page    ${namespace}
    First Bytes Should Be Zero    64    after=${after}    before=${before}


*** Keywords ***
Take A Host With A CXL Device Or Skip
    [Documentation]    Take a host. Add a device if the host has no free CXL device.
    ${entry} =    Take A Host That Can Get A Device
    ${memdev} =    Find A Free Device
    IF    $memdev is None
        Skip If    $entry.cxl is None    ${NO_DEVICE}
        Add Cxl Device
        VAR    ${ADDED} =    ${True}    scope=SUITE
        ${memdev} =    Find A Free Device
        Should Not Be Equal    ${memdev}    ${None}    The device was added, and the host has none.
    END
    VAR    ${MEMDEV} =    ${memdev}    scope=SUITE
    Skip Unless A Region Can Have A UUID

Skip Unless A Region Can Have A UUID
    [Documentation]    Skip if the host's cxl cannot give a new region the UUID with the run's mark.
    TRY
        Create Cxl Region    ${MEMDEV}
    EXCEPT    *cxl has no option --uuid*    type=GLOB    AS    ${reason}
        Skip    ${reason}
    END
    Clean Up Host

Take A Host That Can Get A Device
    [Documentation]    Take a host whose section says how to add a device, or any host if no section does. Return the
    ...    section.
    ${names} =    Get Hosts In This Worker's Turn
    VAR    @{able} =    @{EMPTY}
    FOR    ${name}    IN    @{names}
        ${entry} =    Get Host Entry    ${HOSTS}    ${name}
        IF    $entry.cxl is not None
            Collections.Append To List    ${able}    ${name}
        END
    END
    VAR    @{wanted} =    @{able}
    IF    not $able
        VAR    @{wanted} =    @{names}
    END
    ${taken} =    Open Host From File    ${HOSTS}    @{wanted}    free=True
    Reserve The Host For This Suite
    ${entry} =    Get Host Entry    ${HOSTS}    ${taken}
    RETURN    ${entry}

Find A Free Device
    [Documentation]    Return a device with persistent memory that no CXL region uses, or None.
    ${found} =    Host Has Program    cxl
    IF    not $found    RETURN    ${None}
    ${used} =    Get Devices Of Cxl Regions
    ${memdevs} =    Get Cxl Memory Devices
    FOR    ${memdev}    IN    @{memdevs}
        IF    $memdev.pmem_size and $memdev.dev not in $used
            RETURN    ${memdev}
        END
    END
    RETURN    ${None}

Get Devices Of Cxl Regions
    [Documentation]    Return the names of the devices that a CXL region uses.
    VAR    @{used} =    @{EMPTY}
    ${regions} =    Run Script On Host    list_cxl_regions.sh
    FOR    ${name}    IN    @{regions.split()}
        ${region} =    Get Cxl Region    ${name}
        Collections.Append To List    ${used}    @{region.memdevs}
    END
    RETURN    ${used}

Create Cxl Region With UUID
    [Documentation]    Assemble a region from the device with the host's own cxl, as a run did that is dead. Return its
    ...    name.
    [Arguments]    ${uuid}
    ${region} =    Run Script On Host    create_cxl_region.sh    ${MEMDEV.dev}    ${uuid}
    RETURN    ${region}

Region Should Be Assembled From The Device
    [Documentation]    Fail unless the record of a CXL region names the device, persistent memory and state commit.
    [Arguments]    ${region}
    Should Be Equal As Strings    ${region.memory} ${region.state}    pmem commit
    Length Should Be    ${region.memdevs}    1
    Should Be Equal    ${region.memdevs}[0]    ${MEMDEV.dev}

Injected Error Should Be
    [Documentation]    Fail unless the device lists one media error, which was injected, at this offset.
    [Arguments]    ${errors}    ${offset}    ${length}
    Length Should Be    ${errors}    1
    Should Be Equal As Integers    ${errors[0].offset}    ${offset}
    Should Be Equal As Integers    ${errors[0].length}    ${length}
    Should Be Equal As Strings    ${errors[0].source}    Injected

First Bytes Should Be Zero
    [Documentation]    Fail unless the first `count` bytes are zero and all other bytes are as before, in hexadecimal
    ...    digits.
    [Arguments]    ${count}    ${after}    ${before}
    Should Be Equal    ${after}    ${{'00' * int($count) + $before[2 * int($count):]}}

Read Second Page
    [Documentation]    Return the bytes from 4 KiB to 8 KiB of a namespace as hexadecimal digits. Bypass the page cache.
    [Arguments]    ${namespace}
    ${page} =    Run Script On Host    print_second_page.sh    /dev/${namespace.blockdev}
    RETURN    ${page}

Kernel Should Map
    [Documentation]    Fail unless the kernel's memory map contains the CXL region, or does not contain it, as `mapped`
    ...    says.
    [Arguments]    ${region}    ${mapped}
    ${map} =    Get Output Of Host    cat    /proc/iomem
    IF    ${mapped}
        Should Contain    ${map}    ${region.dev}
    ELSE
        Should Not Contain    ${map}    ${region.dev}
    END

Give The Host And Its Device Back
    [Documentation]    Remove the added device first, because the host had no device before.
    TRY
        IF    $ADDED    Remove The Device
    FINALLY
        Give The Host Back
    END

Remove The Device
    [Documentation]    Clean up the host and remove the device.
    Clean Up Host
    Remove Cxl Device
