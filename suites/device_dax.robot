*** Settings ***
Documentation     Device DAX as a device, as the host's own RAM, and as a device again.
...
...               The raw view of the same namespace, which another driver provides, confirms the bytes. /proc/meminfo
...               and the kernel's memory blocks confirm the memory, not the output of daxctl.

Library           OperatingSystem
Resource          ../resources/host.resource

Suite Setup       Take A Fitting Host Or Skip    mapping    labels
Suite Teardown    Give The Host Back
Test Setup        Remember Its Memory
Test Teardown     Give Back Namespaces And Memory


*** Variables ***
${SYSFS}    /sys/bus/nd/devices


*** Test Cases ***
Bytes Written Through One Mapping Are Read Through A New Mapping And In The Raw View
    [Documentation]    Bytes are written and flushed through a mapping. A new mapping and then the block driver read
    ...    them.
    [Tags]    dx-01
    ${namespace} =    Create Dax Namespace    16MiB
    Write Pattern    ${namespace}    seed=mapped
    Pattern Should Be Intact    ${namespace}    seed=mapped
    ${raw} =    Show Raw    ${namespace}
    Get Namespace Property    ${raw}    mode    ==    raw
    ${start} =    Subtract Size    ${raw.size}    ${namespace.size}
    Pattern Should Be Intact    ${raw}    seed=mapped    length=${namespace.size}    at=${start}
    Show As Device    ${namespace}
    Pattern Should Be Intact    ${namespace}    seed=mapped

A Page That Another Driver Changed Is Found Through The Mapping
    [Documentation]    One page is wiped in the raw view. The mapping shows a difference in exactly that page.
    [Tags]    dx-01
    ${namespace} =    Create Dax Namespace    16MiB
    Write Pattern    ${namespace}    seed=changed behind
    ${raw} =    Show Raw    ${namespace}
    Wipe Sixth Page In Raw View    ${raw}    of=${namespace}
    ${namespace} =    Show As Device    ${namespace}
    Run Keyword And Expect Error    *differ, the first at byte 20480.
    ...    Pattern Should Be Intact    ${namespace}    seed=changed behind
    Content Should Be Zero    ${namespace}    offset=20KiB    length=4KiB
    Pattern Should Be Intact    ${namespace}    seed=changed behind    length=20KiB
    Pattern Should Be Intact    ${namespace}    seed=changed behind    offset=24KiB

A Range Beyond The End Is Refused Before Anything Is Written
    [Documentation]    Writing and reading are refused across the end and completely beyond it. No byte changes.
    [Tags]    dx-03
    ${namespace} =    Create Dax Namespace    16MiB
    Write Pattern    ${namespace}    seed=within
    ${last_page} =    Subtract Size    ${namespace.size}    4KiB
    ${twice} =    Multiply Size    ${namespace.size}    2
    FOR    ${offset}    IN    ${last_page}    ${namespace.size}    ${twice}
        Run Keyword And Expect Error    range '8KiB from *' cannot be used: *within the ${namespace.size}*
        ...    Write Pattern    ${namespace}    seed=past    offset=${offset}    length=8KiB
        Run Keyword And Expect Error    range '8KiB from *' cannot be used: *within the ${namespace.size}*
        ...    Pattern Should Be Intact    ${namespace}    seed=past    offset=${offset}    length=8KiB
    END
    Pattern Should Be Intact    ${namespace}    seed=within

A Failure Of daxio Beyond The End Is Reported
    [Documentation]    With `force=True` daxio gets the range. daxio refuses a range beyond the end. It copies a part
    ...    of a range across the end and exits 0. Both are failures, and the bytes before the range do not change.
    [Tags]    dx-03
    ${namespace} =    Create Dax Namespace    16MiB
    Write Pattern    ${namespace}    seed=within
    Run Keyword And Expect Error    *daxio failed*exit status: 1*mmap*
    ...    Write Pattern    ${namespace}    seed=past    offset=${namespace.size}    length=8KiB    force=True
    Run Keyword And Expect Error
    ...    *daxio failed*exit status: 1*mmap*
    ...    Pattern Should Be Intact
    ...    ${namespace}
    ...    seed=past
    ...    offset=${namespace.size}
    ...    length=8KiB
    ...    force=True
    Pattern Should Be Intact    ${namespace}    seed=within
    ${last} =    Subtract Size    ${namespace.size}    4KiB
    Run Keyword And Expect Error    *did not copy all 8192 bytes*exit status: 0*copied 4096 bytes*
    ...    Write Pattern    ${namespace}    seed=past    offset=${last}    length=8KiB    force=True
    Pattern Should Be Intact    ${namespace}    seed=within    length=${last}

A Namespace Becomes System RAM And A Device Again
    [Documentation]    MemTotal grows and shrinks by the predicted amount, to the kB. The device is complete afterwards.
    [Tags]    dx-02
    ${namespace} =    Create System RAM
    Every Memory Block Should Be Movable    ${namespace}
    Daxctl Should List    ${namespace}    system-ram
    Reconfigure Dax Device    ${namespace}    mode=devdax
    Should Be A Device    ${namespace}
    Daxctl Should List    ${namespace}    devdax
    Write Pattern    ${namespace}    seed=a device again    length=4MiB
    Pattern Should Be Intact    ${namespace}    seed=a device again    length=4MiB

Memory Is Put Offline And Online Again
    [Documentation]    MemTotal shrinks and grows. A second call changes nothing.
    [Tags]    dx-02
    ${namespace} =    Create System RAM
    FOR    ${_}    IN RANGE    2
        Set Dax Memory Offline    ${namespace}
        MemTotal Should Be    ${BEFORE}
    END
    FOR    ${_}    IN RANGE    2
        Set Dax Memory Online    ${namespace}
        MemTotal Should Be    ${GROWN}
    END

System RAM Can Start Offline
    [Documentation]    This also works where the kernel puts new memory online automatically. Offline memory becomes a
    ...    device without force.
    [Tags]    dx-02
    ${namespace} =    Create Dax Namespace For System RAM
    Run Keyword And Expect Error    *is devdax, so it has no memory*    Set Dax Memory Online    ${namespace}
    Reconfigure Dax Device    ${namespace}    mode=system-ram    online=False
    Get Dax Device Mode    ${namespace}    ==    system-ram
    MemTotal Should Be    ${BEFORE}
    Reconfigure Dax Device    ${namespace}    mode=devdax    force=False
    Should Be A Device    ${namespace}

Online Memory Does Not Become A Device Without Being Put Offline
    [Documentation]    The error has daxctl's own refusal with its exit status. The memory does not change.
    [Tags]    dx-02
    ${namespace} =    Create System RAM
    Run Keyword And Expect Error    *system-ram, * online*: the device is in use (EBUSY)*exit status: 240*
    ...    Reconfigure Dax Device    ${namespace}    mode=devdax    force=False
    Get Dax Device Mode    ${namespace}    ==    system-ram
    MemTotal Should Be    ${GROWN}

Memory With Pages That Cannot Be Moved Stays Online And Loses Nothing
    [Documentation]    A process keeps pages of the new memory in a pipe, from which the kernel cannot move them. The
    ...    error reports the state, and the memory stays online. It can become a device as soon as the process has
    ...    ended.
    [Tags]    dx-02
    VAR    ${message} =    *cannot be moved. No content is lost: the instance is system-ram, * online in zone Movable*
    Skip Unless Program Is Installed    python3    install python3 on the host: a process of it pins memory
    ${namespace} =    Create System RAM
    Pin Memory Of    ${namespace}
    Run Keyword And Expect Error    ${message}    Set Dax Memory Offline    ${namespace}    timeout=5 seconds
    Run Keyword And Expect Error
    ...    ${message}
    ...    Reconfigure Dax Device
    ...    ${namespace}
    ...    mode=devdax
    ...    timeout=5 seconds
    MemTotal Should Be    ${GROWN}
    End Background Process
    Reconfigure Dax Device    ${namespace}    mode=devdax
    Should Be A Device    ${namespace}

The Module For System RAM Is Loaded
    [Documentation]    The test unloads kmem if nothing on the host is system RAM. The keyword loads kmem.
    [Tags]    dx-02
    ${namespace} =    Create Dax Namespace For System RAM
    Unload Module Of System RAM Or Skip
    Make System RAM    ${namespace}
    Run On Host    test    -d    /sys/module/kmem

A Namespace In Use Does Not Become System RAM
    [Documentation]    A process has the device open. The error names the process, and the device stays.
    [Tags]    dx-02
    ${namespace} =    Create Dax Namespace For System RAM
    ${pid} =    Let A Process Have Open    ${namespace.device}
    Run Keyword And Expect Error    *is in use on *: process ${pid} (sleep)*
    ...    Reconfigure Dax Device    ${namespace}    mode=system-ram
    Should Be A Device    ${namespace}

A Namespace Without A Whole Memory Block Stays A Device
    [Documentation]    daxctl would unbind the device from its driver and then fail. The keyword refuses before that.
    [Tags]    dx-02
    ${namespace} =    Create Dax Namespace    16MiB
    ${block} =    Get Memory Block Size
    Skip Unless Smaller    ${namespace.size}    ${block}
    ${growth} =    Get Predicted Memory Growth    ${namespace}
    Should Be Equal As Integers    ${growth}    0
    Run Keyword And Expect Error    *expected an instance with a whole memory block*
    ...    Reconfigure Dax Device    ${namespace}    mode=system-ram
    Should Be A Device    ${namespace}

System RAM Is Neither Disabled Nor Destroyed Until Cleanup
    [Documentation]    The host itself uses the namespace. Cleanup turns it into a device first and then destroys it.
    [Tags]    dx-02
    ${namespace} =    Create System RAM
    Run Keyword And Expect Error    *in use*as system RAM*    Disable Namespace    ${namespace}
    Run Keyword And Expect Error    *in use*as system RAM*    Destroy Namespace    ${namespace}
    Get Dax Device Mode    ${namespace}    ==    system-ram
    Clean Up Host
    Namespace Should Not Exist    ${namespace}
    MemTotal Should Be    ${BEFORE}

A Namespace Of Another Run Is Not Changed
    [Documentation]    The namespace has no mark of this run. Every keyword that would change it refuses.
    [Tags]    dx-02
    ${namespace} =    Create Foreign Namespace
    FOR    ${mode}    IN    system-ram    devdax
        Run Keyword And Expect Error    *is not this run's own*
        ...    Reconfigure Dax Device    ${namespace}    mode=${mode}
    END
    Run Keyword And Expect Error    *is not this run's own*    Set Dax Memory Offline    ${namespace}
    Run Keyword And Expect Error    *is not this run's own*    Wipe Content    ${namespace}
    Run Keyword And Expect Error    *is not this run's own*    Wipe Content    ${namespace.device}
    Run Keyword And Expect Error    *is not this run's own*    Destroy Dax Device    ${namespace.chardev}
    [Teardown]    Run Keywords    Destroy Namespace    foreign    foreign=True    AND    Give Back Namespaces And Memory

The Only Instance Of A Namespace Is Neither Resized Nor Destroyed
    [Documentation]    daxctl would disable the instance and then fail. The keyword refuses before that, and creates no
    ...    other instance.
    [Tags]    dx-04
    ${namespace} =    Create Dax Namespace    16MiB
    ${region} =    Get Dax Region Of    ${namespace}
    Run Keyword And Expect Error    *is static*    Create Dax Device    ${region}    size=16MiB
    Run Keyword And Expect Error    *is static*    Resize Dax Device    ${namespace.chardev}    size=16MiB
    Run Keyword And Expect Error    *is static*    Destroy Dax Device    ${namespace.chardev}
    Get Dax Device Mode    ${namespace}    ==    devdax
    Namespace Views Should Agree    ${namespace}


*** Keywords ***
Remember Its Memory
    [Documentation]    Save MemTotal. Every test must return to this value.
    VAR    ${PROCESS} =    ${EMPTY}    scope=SUITE
    ${total} =    Get Memory Total
    VAR    ${BEFORE} =    ${total}    scope=SUITE

Give Back Namespaces And Memory
    [Documentation]    Remove everything that the test made. Fail unless the host's memory is as before.
    End Background Process
    Clean Up Host
    MemTotal Should Be    ${BEFORE}

Create Dax Namespace
    [Documentation]    Create a devdax namespace with its page map in memory, in the region with the most room.
    [Arguments]    ${size}
    ${region} =    Get Region With Room    at_least=${size}
    ${namespace} =    Create Namespace    ${region}    mode=devdax    map=mem    size=at least ${size}    name=dax
    RETURN    ${namespace}

Create Dax Namespace For System RAM
    [Documentation]    Create a devdax namespace that contains a whole memory block of the host at any start address.
    ${block} =    Get Memory Block Size
    ${two_blocks} =    Multiply Size    ${block}    2
    ${namespace} =    Create Dax Namespace    ${two_blocks}
    RETURN    ${namespace}

Get Memory Block Size
    [Documentation]    Return the size in bytes of a memory block of the host's kernel.
    ${read} =    Run On Host    cat    /sys/devices/system/memory/block_size_bytes
    RETURN    ${{int($read.text, 16)}}

Create System RAM
    [Documentation]    Create a devdax namespace and turn it into system RAM.
    ${namespace} =    Create Dax Namespace For System RAM
    Make System RAM    ${namespace}
    RETURN    ${namespace}

Make System RAM
    [Documentation]    Turn a namespace into system RAM. Fail unless MemTotal grows by the predicted amount.
    [Arguments]    ${namespace}
    ${growth} =    Get Predicted Memory Growth    ${namespace}
    Should Be True    $growth > 0
    VAR    ${GROWN} =    ${{$BEFORE + $growth}}    scope=SUITE
    Reconfigure Dax Device    ${namespace}    mode=system-ram
    Get Dax Device Mode    ${namespace}    ==    system-ram
    MemTotal Should Be    ${GROWN}

Should Be A Device
    [Documentation]    Check that the device has its driver, and that the host's memory is as before the test.
    [Arguments]    ${namespace}
    Get Dax Device Mode    ${namespace}    ==    devdax
    MemTotal Should Be    ${BEFORE}

Every Memory Block Should Be Movable
    [Documentation]    Check that all memory blocks together are as large as the growth of MemTotal, and that each block
    ...    is in the movable zone.
    [Arguments]    ${namespace}
    ${memory} =    Get Dax Memory    ${namespace}
    Should Be Equal As Integers    ${{$memory.online * $memory.block_size}}    ${{$GROWN - $BEFORE}}
    FOR    ${block}    IN    @{memory.blocks}
        ${zone} =    Get Output Of Host    cat    /sys/devices/system/memory/memory${block.number}/valid_zones
        Should Be Equal    ${zone}    Movable
    END

Show Raw
    [Documentation]    Let the block driver show a namespace from its first byte. Write nothing.
    [Arguments]    ${namespace}
    Set Force Raw    ${namespace}    1
    ${raw} =    Get Namespace    ${namespace}
    RETURN    ${raw}

Show As Device
    [Documentation]    End `Show Raw`.
    [Arguments]    ${namespace}
    Set Force Raw    ${namespace}    0
    ${shown} =    Get Namespace    ${namespace}
    RETURN    ${shown}

Wipe Sixth Page In Raw View
    [Documentation]    Wipe the page of a namespace that begins at 20KiB of its device, in the raw view.
    [Arguments]    ${raw}    ${of}
    ${start} =    Subtract Size    ${raw.size}    ${of.size}
    ${offset} =    Add Sizes    ${start}    20KiB
    Wipe Content    ${raw}    offset=${offset}    length=4KiB

Set Force Raw
    [Documentation]    Disable a namespace, set whether the kernel ignores its info block, and enable it.
    [Arguments]    ${namespace}    ${value}
    Disable Namespace    ${namespace}
    Run On Host    tee    ${SYSFS}/${namespace.dev}/force_raw    stdin=${value}\n
    Enable Namespace    ${namespace}

MemTotal Should Be
    [Documentation]    Compare MemTotal of /proc/meminfo with a number of bytes, to the kB.
    [Arguments]    ${expected}
    ${read} =    Run On Host    grep    ^MemTotal:    /proc/meminfo
    Should Be Equal    ${read.text.split()}    ${{['MemTotal:', str($expected // 1024), 'kB']}}

Daxctl Should List
    [Documentation]    Check the mode in daxctl's own listing.
    [Arguments]    ${namespace}    ${mode}
    ${devices} =    Get Dax Devices
    ${device} =    Get Record With    ${devices}    chardev=${namespace.chardev}
    Should Be Equal    ${device.mode}    ${mode}

Pin Memory Of
    [Documentation]    Start a process with pages of the namespace's NUMA node that cannot be moved.
    [Arguments]    ${namespace}
    ${devices} =    Get Dax Devices
    ${device} =    Get Record With    ${devices}    chardev=${namespace.chardev}
    ${program} =    OperatingSystem.Get File    ${CURDIR}/../resources/scripts/pin_memory.py
    Start In Background    python3    -c    ${program}    ${device.target_node}
    Wait Until Keyword Succeeds    20 s    200 ms    Background Process Should Have Printed    pinned

Let A Process Have Open
    [Documentation]    Start a process on the host that has a device open, and return its process id.
    [Arguments]    ${device}
    ${pid} =    Start In Background    sh    -c    exec sleep 120 <>"$1"    sh    ${device}
    RETURN    ${pid}

Start In Background
    [Documentation]    Start a command on the host that continues after this keyword, and return its process id.
    [Arguments]    @{command}
    ${file} =    Get Output Of Host    mktemp
    ${pid} =    Run Script On Host    start_in_background.sh    ${file}    @{command}
    VAR    ${PROCESS} =    ${pid}    scope=SUITE
    VAR    ${OUTPUT} =    ${file}    scope=SUITE
    RETURN    ${pid}

Background Process Should Have Printed
    [Documentation]    Fail unless the output of the background process contains a text.
    [Arguments]    ${text}
    ${printed} =    Get Output Of Host    cat    ${OUTPUT}
    Should Contain    ${printed}    ${text}

Unload Module Of System RAM Or Skip
    [Documentation]    Unload kmem. Skip if another device is system RAM, or if the kernel has kmem built in.
    ${devices} =    Get Dax Devices
    ${in_use} =    Get Records With    ${devices}    mode=system-ram
    Skip If    $in_use    Device DAX of others is system RAM on this host: its module cannot be unloaded.
    Run On Host    udevadm    settle
    Run On Host    modprobe    --remove    kmem    expected_status=${None}
    ${found} =    Run On Host    test    -d    /sys/module/kmem    expected_status=${None}
    Skip If    $found.exit_status == 0    The module kmem is built into this host's kernel.

Skip Unless Smaller
    [Documentation]    Skip if a namespace is large enough for a whole memory block.
    [Arguments]    ${size}    ${block}
    Skip If    $size >= $block    The smallest namespace of this host may hold a whole memory block.

Get Dax Region Of
    [Documentation]    Return the device-DAX region that has the instance of a namespace.
    [Arguments]    ${namespace}
    ${regions} =    Get Dax Regions
    FOR    ${region}    IN    @{regions}
        IF    $namespace.chardev in str($region.devices)    RETURN    ${region}
    END
    Fail    No device-DAX region has ${namespace.chardev}.

End Background Process
    [Documentation]    End the background process, if there is one, and wait until it has ended.
    IF    $PROCESS
        Run Script On Host    kill_and_wait.sh    ${PROCESS}
        Run On Host    rm    -f    ${OUTPUT}
    END
    VAR    ${PROCESS} =    ${EMPTY}    scope=SUITE
