*** Settings ***
Documentation     How fast persistent memory is on the host and in a guest, and with DAX against the page cache. What is
...               asserted is how two measurements compare, never a number: that depends on the machine. The least
...               ratios are variables, low enough for emulation; give your own for a machine that you know.

Resource          ../resources/guest.resource

Suite Setup       Make Namespaces On The Host And In A Guest
Suite Teardown    Give The Host Back

Test Tags         pf-01


*** Variables ***
${IN_GUEST_TO_ON_HOST}    0.1
${RANDOM_TO_ORDERED}      0.1
${DAX_TO_PAGE_CACHE}      0.1
${LENGTH}                 32MiB


*** Test Cases ***
A Guest Reads And Writes As Fast As Its Host In Proportion
    [Documentation]    One piece of 1 MiB after the other, past the page cache.
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

Random Places Cost Little
    [Documentation]    Pieces of 4 KiB, in random places against one after the other, on the host and in the guest.
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

A DAX File Is As Fast As One In The Page Cache In Proportion
    [Documentation]    The same file system mounted with DAX and without; which one it is, its kernel says.
    [Tags]    pf-02
    Switch Host    ${OUTSIDE}
    Make File System    ${ON_HOST}    ext4    overwrite=True
    ${dax} =    Measure A File On A Mount    always    dax
    ${cached} =    Measure A File On A Mount    never    page cache
    Get Bandwidth Ratio    ${dax}    ${cached}    >=    ${DAX_TO_PAGE_CACHE}


*** Keywords ***
Make Namespaces On The Host And In A Guest
    [Documentation]    An fsdax namespace on the host, and a guest whose device is a block device inside.
    Take A Host
    ${aliases} =    Get Open Hosts
    VAR    ${OUTSIDE} =    ${aliases}[0]    scope=SUITE
    Make A Namespace And Boot A Guest

Make A Namespace And Boot A Guest
    [Documentation]    The namespace to measure on the host, and the guest with a node to measure in it.
    ${region} =    Get Roomiest Region    at_least=256MiB
    ${namespace} =    Create Namespace    ${region}    mode=fsdax    size=at least 64MiB    name=measured
    VAR    ${ON_HOST} =    ${namespace}    scope=SUITE
    ${backing} =    Create Devdax Namespace    64MiB    backing
    ${guest} =    Start New Guest    vpmem=${backing}
    ${node} =    Get Guest Device Node    ${guest}
    VAR    ${IN_GUEST} =    ${node}    scope=SUITE
    Open Guest As Host    ${guest}    alias=inside

Measure
    [Documentation]    Measures reading and writing on a host or in the guest, and returns both.
    [Arguments]    ${alias}    ${target}    ${order}    ${block}
    Switch Host    ${alias}
    ${read} =    Measure Reading    ${target}    ${order}    block=${block}    length=${LENGTH}
    ${write} =    Measure Writing    ${target}    ${order}    block=${block}    length=${LENGTH}    foreign=True
    RETURN    ${read}    ${write}

Measure A File On A Mount
    [Documentation]    Measures reading a file, once it is proven how the kernel reaches it.
    [Arguments]    ${dax}    ${access}
    ${mount} =    Mount File System    ${ON_HOST}    dax=${dax}
    VAR    ${file} =    ${mount.mount_point}/measured
    Run On Host    dd    if\=/dev/zero    of\=${file}    bs\=1M    count\=32    conv\=fsync
    Get File Access    ${file}    ==    ${access}
    ${speed} =    Measure Reading    ${file}    sequential    block=1MiB    length=${LENGTH}
    Unmount File System    ${mount.mount_point}
    RETURN    ${speed}
