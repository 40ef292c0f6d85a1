*** Settings ***
Documentation     The facts of a host in one read, and whether it supports virtual persistent memory.

Library           Collections
Library           OperatingSystem
Resource          ../resources/host.resource

Suite Setup       Take A Host
Suite Teardown    Give The Host Back

Test Tags         smoke


*** Test Cases ***
One Read Returns The Facts Of A Host
    [Documentation]    Each fact equals the answer of its own source on the host.
    [Tags]    hs-01
    ${facts} =    Get Host Facts
    ${kernel} =    Get Output Of Host    uname    -r
    ${ndctl} =    Get Output Of Host    ndctl    --version
    ${daxctl} =    Get Output Of Host    daxctl    --version
    ${modules} =    Get Output Of Host    cat    /proc/modules
    Should Be Equal    ${facts.kernel}    ${kernel}
    Should Be Equal    ${facts.ndctl}    ${ndctl}
    Should Be Equal    ${facts.daxctl}    ${daxctl}
    FOR    ${module}    IN    libnvdimm    nfit    nd_pmem    device_dax
        Should Contain    ${facts.modules}    ${module}
        Should Contain    ${modules}    ${module}
    END

Regions In The Facts Match The Kernel
    [Documentation]    The facts have exactly the regions of sysfs, each with its size, its free space and its NUMA
    ...    node.
    [Tags]    hs-01
    ${facts} =    Get Host Facts
    ${regions} =    Get Field Of Each    ${facts.regions}    dev
    ${in_sysfs} =    Get Regions Of Sysfs
    Should Not Be Empty    ${regions}
    Collections.Lists Should Be Equal    ${regions}    ${in_sysfs}    ignore_order=True
    FOR    ${region}    IN    @{facts.regions}
        Region In Sysfs Should Have    region=${region.dev}    attribute=size    value=${region.size}
        Region In Sysfs Should Have
        ...    region=${region.dev}
        ...    attribute=available_size
        ...    value=${region.available_size}
        Region In Sysfs Should Have    region=${region.dev}    attribute=numa_node    value=${region.numa_node}
    END

The Machine That Runs The Tests Is Opened Without SSH
    [Documentation]    Commands run on this machine. Its boot id is the one that this process reads itself.
    [Tags]    hs-01
    ${taken} =    Get Current Host
    Open Local Host    here
    ${known} =    OperatingSystem.Get File    /proc/sys/kernel/random/boot_id
    ${id} =    Get Host Boot Id
    Should Be Equal    ${id}    ${known}    strip_spaces=True
    [Teardown]    Run Keywords    Close Host    here    AND    Switch Host    ${taken}

The Preflight Passes On A Complete Host
    [Documentation]    The host has everything that virtual persistent memory needs.
    [Tags]    hs-02
    Host Should Support Vpmem


*** Keywords ***
Get Regions Of Sysfs
    [Documentation]    Return the names of the regions in the kernel's own list of devices.
    ${devices} =    Get Output Of Host    ls    /sys/bus/nd/devices
    ${names} =    Get Words    ${devices}
    ${regions} =    Collections.Get Matches    ${names}    region*
    RETURN    ${regions}

Region In Sysfs Should Have
    [Documentation]    Fail unless the kernel's attribute of a region has a value. The kernel writes -1 for no node, and
    ...    has no attribute for the free space of a region without labels.
    [Arguments]    ${region}    ${attribute}    ${value}
    ${read} =    Run On Host    cat    /sys/bus/nd/devices/${region}/${attribute}    expected_status=${None}
    IF    $read.exit_status == 0
        Should Be Equal As Integers    ${read.text}    ${{-1 if $value is None else $value}}
    ELSE
        Should Be Equal    ${value}    ${None}
    END
