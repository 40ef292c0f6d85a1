*** Settings ***
Documentation     The speed of persistent memory on the host and in a guest, and of DAX compared with the page cache.
...               The suite checks the ratio of two measurements and never an absolute number, because that depends on
...               the machine. The minimum ratios are variables, low enough for emulation. Set higher ratios for a
...               machine that you know.

Resource          ../resources/guest.resource

Suite Setup       Make Namespaces On The Host And In A Guest
Suite Teardown    Give The Host Back

Test Tags         pf-01


*** Variables ***
${IN_GUEST_TO_ON_HOST}    0.1
${RANDOM_TO_ORDERED}      0.1
${DAX_TO_PAGE_CACHE}      0.1
${LENGTH}                 8MiB
${EMULATED}
...                       SEPARATOR=${SPACE}
...                       QEMU emulates this CXL memory: each access is a call into QEMU, at about 10 MiB per second, so
...                       DAX is slower than any page cache. Fix: a CXL device of hardware, or NVDIMMs.


*** Test Cases ***
Guest Bandwidth Reaches A Minimum Ratio Of Host Bandwidth
    [Documentation]    Blocks of 1 MiB are read and written in sequence, without the page cache.
    ${host_read}    ${host_write} =    Measure
    ...    alias=${OUTSIDE}
    ...    target=${ON_HOST}
    ...    order=sequential
    ...    block=1MiB
    ${guest_read}    ${guest_write} =    Measure
    ...    alias=inside
    ...    target=${IN_GUEST}
    ...    order=sequential
    ...    block=1MiB
    Get Bandwidth Ratio    ${guest_read}    ${host_read}    >=    ${IN_GUEST_TO_ON_HOST}
    Get Bandwidth Ratio    ${guest_write}    ${host_write}    >=    ${IN_GUEST_TO_ON_HOST}

Random Access Reaches A Minimum Ratio Of Sequential Access
    [Documentation]    Blocks of 4 KiB are measured in random and in sequential order, on the host and in the guest.
    FOR    ${alias}    ${namespace}    IN    ${OUTSIDE}    ${ON_HOST}    inside    ${IN_GUEST}
        ${read}    ${write} =    Measure    alias=${alias}    target=${namespace}    order=sequential    block=4KiB
        ${random_read}    ${random_write} =    Measure
        ...    alias=${alias}
        ...    target=${namespace}
        ...    order=random
        ...    block=4KiB
        Get Bandwidth Ratio    ${random_read}    ${read}    >=    ${RANDOM_TO_ORDERED}
        Get Bandwidth Ratio    ${random_write}    ${write}    >=    ${RANDOM_TO_ORDERED}
    END

DAX Bandwidth Reaches A Minimum Ratio Of Page Cache Bandwidth
    [Documentation]    The same file system is mounted with DAX and without DAX. The host's kernel confirms each.
    [Tags]    pf-02    -pf-01
    Switch Host    ${OUTSIDE}
    Skip If The Namespace Is On Emulated CXL Memory
    Make File System    ${ON_HOST}    ext4    overwrite=True
    ${dax} =    Measure A File On A Mount    always    dax
    ${cached} =    Measure A File On A Mount    never    page cache
    Get Bandwidth Ratio    ${dax}    ${cached}    >=    ${DAX_TO_PAGE_CACHE}


*** Keywords ***
Make Namespaces On The Host And In A Guest
    [Documentation]    Create an fsdax namespace on the host, and a guest whose device is a block device inside.
    Take A Fitting Host Or Skip    mapping    labels
    ${aliases} =    Get Open Hosts
    VAR    ${OUTSIDE} =    ${aliases}[0]    scope=SUITE
    Make A Namespace And Boot A Guest

Make A Namespace And Boot A Guest
    [Documentation]    Create the namespace to measure on the host, and boot the guest with the node to measure.
    ${region} =    Get Region With Room    at_least=256MiB
    ${namespace} =    Create Namespace    ${region}    mode=fsdax    size=at least 64MiB    name=measured
    VAR    ${ON_HOST} =    ${namespace}    scope=SUITE
    ${backing} =    Create Devdax Namespace    64MiB    backing
    ${guest} =    Start New Guest    vpmem=${backing}
    ${node} =    Get Guest Device Node    ${guest}
    VAR    ${IN_GUEST} =    ${node}    scope=SUITE
    Open Guest As Host    ${guest}    alias=inside

Skip If The Namespace Is On Emulated CXL Memory
    [Documentation]    Skip if a device of the namespace's CXL region has QEMU's PCI subsystem vendor.
    ${region} =    Get Region    ${ON_HOST.region}
    IF    $region.provider != 'CXL'    RETURN
    ${cxl} =    Get Cxl Region    ${region}
    FOR    ${dev}    IN    @{cxl.memdevs}
        ${vendor} =    Get Output Of Host    cat    /sys/bus/cxl/devices/${dev}/../subsystem_vendor
        Skip If    $vendor == '0x1af4'    ${EMULATED}
    END

Measure
    [Documentation]    Measure reading and writing on a host or in the guest, and return both results.
    [Arguments]    ${alias}    ${target}    ${order}    ${block}
    Switch Host    ${alias}
    ${read} =    Measure Speed    ${target}    read    ${order}    block=${block}    length=${LENGTH}
    ${write} =    Measure Speed    ${target}    write    ${order}    block=${block}    length=${LENGTH}    foreign=True
    RETURN    ${read}    ${write}

Measure A File On A Mount
    [Documentation]    Check how the kernel accesses a file, and measure reading it.
    [Arguments]    ${dax}    ${access}
    ${mount} =    Mount File System    ${ON_HOST}    dax=${dax}
    VAR    ${file} =    ${mount.mount_point}/measured
    Run On Host    dd    if\=/dev/zero    of\=${file}    bs\=1M    count\=32    conv\=fsync
    Get File Access    ${file}    ==    ${access}
    ${speed} =    Measure Speed    ${file}    read    sequential    block=1MiB    length=${LENGTH}
    Unmount File System    ${mount.mount_point}
    RETURN    ${speed}
