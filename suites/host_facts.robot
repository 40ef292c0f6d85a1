*** Settings ***
Documentation     What a host is, in one read, and whether it can carry virtual persistent memory.

Resource          ../resources/host.resource

Suite Setup       Take A Host
Suite Teardown    Give The Host Back

Test Tags         smoke


*** Test Cases ***
One Read Tells What A Host Is
    [Documentation]    Each fact of the one read equals what its own source on the host says when asked alone.
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

Regions In The Facts Are Those Of The Kernel
    [Documentation]    The regions and their NUMA nodes are the ones that sysfs has.
    [Tags]    hs-01
    ${regions} =    Get Regions
    FOR    ${region}    IN    @{regions}
        ${size} =    Run On Host    cat    /sys/bus/nd/devices/${region.dev}/size
        ${node} =    Run On Host    cat    /sys/bus/nd/devices/${region.dev}/numa_node
        Should Be Equal As Integers    ${region.size}    ${size.text}
        Should Be Equal As Integers    ${region.numa_node}    ${node.text}
    END

The Preflight Passes On A Complete Host
    [Documentation]    Every item that virtual persistent memory needs is there.
    [Tags]    hs-02
    Host Should Support Vpmem
