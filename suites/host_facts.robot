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
    ${kernel} =    Run On Host    uname    -r
    ${ndctl} =    Run On Host    ndctl    --version
    ${daxctl} =    Run On Host    daxctl    --version
    ${modules} =    Run On Host    cat    /proc/modules
    Should Be Equal    ${facts.kernel}    ${kernel.text.strip()}
    Should Be Equal    ${facts.ndctl}    ${ndctl.text.strip()}
    Should Be Equal    ${facts.daxctl}    ${daxctl.text.strip()}
    FOR    ${module}    IN    libnvdimm    nfit    nd_pmem    device_dax
        Should Contain    ${facts.modules}    ${module}
        Should Contain    ${modules.text}    ${module}
    END

Regions In The Facts Match The Kernel
    [Documentation]    The facts have exactly the regions of sysfs, each with its size, its free space and its NUMA
    ...    node.
    [Tags]    hs-01
    ${facts} =    Get Host Facts
    ${listed} =    Run On Host    ls    /sys/bus/nd/devices
    VAR    @{there} =    @{{[name for name in $listed.text.split() if name.startswith('region')]}}
    VAR    @{told} =    @{{[region.dev for region in $facts.regions]}}
    Should Not Be Empty    ${told}
    Collections.Lists Should Be Equal    ${told}    ${there}    ignore_order=True
    FOR    ${region}    IN    @{facts.regions}
        Sysfs Should Say    region=${region.dev}    attribute=size    value=${region.size}
        Sysfs Should Say    region=${region.dev}    attribute=available_size    value=${region.available_size}
        Sysfs Should Say    region=${region.dev}    attribute=numa_node    value=${region.numa_node}
    END

The Machine That Runs The Tests Is Opened Without SSH
    [Documentation]    Commands run on this machine. Its boot id is the one that this process reads itself.
    [Tags]    hs-01
    ${taken} =    Get Current Host
    Open Local Host    here
    ${known} =    OperatingSystem.Get File    /proc/sys/kernel/random/boot_id
    ${id} =    Get Host Boot Id
    Should Be Equal    ${id}    ${known.strip()}
    [Teardown]    Run Keywords    Close Host    here    AND    Switch Host    ${taken}

The Preflight Passes On A Complete Host
    [Documentation]    The host has everything that virtual persistent memory needs.
    [Tags]    hs-02
    Host Should Support Vpmem


*** Keywords ***
Sysfs Should Say
    [Documentation]    Fail unless the kernel's attribute of a region has a value.
    [Arguments]    ${region}    ${attribute}    ${value}
    ${read} =    Run On Host    cat    /sys/bus/nd/devices/${region}/${attribute}
    Should Be Equal As Integers    ${read.text}    ${value}
