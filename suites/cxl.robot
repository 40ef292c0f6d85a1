*** Settings ***
Documentation     CXL memory. A persistent region is assembled from a CXL device. The keywords for any region create
...               namespaces in it, and the namespaces back guests. Poison is injected, listed and cleared.
...
...               A host without a CXL device gets a device while it runs, if its section of the hosts file says how.

Library           Collections
Resource          ../resources/guest.resource

Suite Setup       Take A Host With A CXL Device
Suite Teardown    Give The Host And Its Device Back
Test Teardown     Clean Up Host


*** Variables ***
${ADDED}            ${False}
${OF_A_DEAD_RUN}    76706d65-6dde-8adb-8eef-0123456789ab
${NO_DEVICE}
...                 SEPARATOR=${SPACE}
...                 This host has no CXL device with persistent memory that is free, and its section of the hosts file
...                 says no host_cxl_add. Mend: a CXL type-3 device, or a command that adds one.


*** Test Cases ***
A Region Is Assembled From The Device And Destroyed
    [Documentation]    The region is a libnvdimm region as large as the device. The kernel's memory map contains it.
    [Tags]    cx-01
    ${region} =    Create Cxl Region    ${MEMDEV}
    Should Be Equal    ${region.provider}    CXL
    Should Be Equal    ${region.size}    ${MEMDEV.pmem_size}
    Get Region Property    ${region}    available size    ==    ${MEMDEV.pmem_size}
    ${assembled} =    Get Cxl Region    ${region}
    Should Be Equal    ${{$assembled.memdevs, $assembled.memory, $assembled.state}}
    ...    ${{($MEMDEV.dev,), 'pmem', 'commit'}}
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
    ${found} =    Get Namespace    ${namespace.label_uuid}
    Should Be Equal    ${{$found.name, $found.mode, $found.size}}
    ...    ${{$namespace.name, $namespace.mode, $namespace.size}}
    Pattern Should Be Intact    ${found}    seed=outlives    length=1MiB

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
    ${decoder} =    Run On Host    sh    -c    cxl list -D -d root -m ${MEMDEV.dev} | grep -o 'decoder[0-9][0-9.]*'
    Run On Host    cxl    create-region    -t    pmem    -d    ${decoder.text.split()}[0]    -U    ${OF_A_DEAD_RUN}
    ...    -m    ${MEMDEV.dev}
    ${region} =    Get Region Of A UUID    ${OF_A_DEAD_RUN}
    Clean Up Host
    Get Cxl Region    ${region}
    ${told} =    Clean Up After Dead Runs
    Should Be Equal    ${told}    ${{['CXL region ${region} (${OF_A_DEAD_RUN}) of run deadbeef']}}
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
    Should Be Equal    ${{[(each.offset, each.length, each.source) for each in $errors]}}
    ...    ${{[(4096, 64, 'Injected')]}}
    Clear Poison    ${MEMDEV}    offset=4KiB
    Get Media Errors    ${MEMDEV}    ==    0
    ${after} =    Read Second Page    ${namespace}
    Should Be Equal    ${after}    ${{'00' * 64 + $before[128:]}}


*** Keywords ***
Take A Host With A CXL Device
    [Documentation]    Take a host. Add a device if the host has no free CXL device.
    ${entry} =    Take One That Can Be Given A Device
    ${memdev} =    Find A Free Device
    IF    $memdev is None
        Skip If    $entry.cxl is None    ${NO_DEVICE}
        Add Cxl Device
        VAR    ${ADDED} =    ${True}    scope=SUITE
        ${memdev} =    Find A Free Device
        Should Not Be Equal    ${memdev}    ${None}    The device was added, and the host has none.
    END
    VAR    ${MEMDEV} =    ${memdev}    scope=SUITE

Take One That Can Be Given A Device
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
    VAR    @{wanted} =    @{{$able or $names}}
    ${taken} =    Open Host From File    ${HOSTS}    @{wanted}    free=True
    Reserve The Host For This Suite
    ${entry} =    Get Host Entry    ${HOSTS}    ${taken}
    RETURN    ${entry}

Find A Free Device
    [Documentation]    Return a device with persistent memory on a host without CXL regions, or None.
    ${found} =    Run On Host    sh    -c    command -v cxl    expected_status=${None}
    IF    $found.exit_status != 0    RETURN    ${None}
    ${regions} =    Run On Host    sh    -c    ls -d /sys/bus/cxl/devices/region*    expected_status=${None}
    IF    $regions.exit_status == 0    RETURN    ${None}
    ${memdevs} =    Get Cxl Memory Devices
    ${persistent} =    Evaluate    [each for each in $memdevs if each.pmem_size]
    RETURN    ${{$persistent[0] if $persistent else None}}

Get Region Of A UUID
    [Documentation]    Return the name of the CXL region with this UUID, from sysfs.
    [Arguments]    ${uuid}
    ${found} =    Run On Host    sh    -c    grep -l ${uuid} /sys/bus/cxl/devices/region*/uuid
    RETURN    ${{$found.text.split('/')[-2]}}

Read Second Page
    [Documentation]    Return the bytes from 4 KiB to 8 KiB of a namespace as hexadecimal digits. Bypass the page cache.
    [Arguments]    ${namespace}
    ${page} =    Run On Host    sh    -c
    ...    dd if=/dev/${namespace.blockdev} bs=4096 skip=1 count=1 iflag=direct status=none | od -An -v -tx1
    RETURN    ${{''.join($page.text.split())}}

Kernel Should Map
    [Documentation]    Fail unless the kernel's memory map contains the CXL region, or does not contain it, as `mapped`
    ...    says.
    [Arguments]    ${region}    ${mapped}
    ${map} =    Run On Host    cat    /proc/iomem
    Should Be Equal    ${{$region.dev in $map.text}}    ${mapped}

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
