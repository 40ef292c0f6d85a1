*** Settings ***
Documentation     Device DAX as a device, as the host's own RAM, and as a device again.
...
...               The raw view of the same namespace, which another driver provides, confirms the bytes. /proc/meminfo
...               and the kernel's memory blocks confirm the memory, not the output of daxctl.

Resource          ../resources/host.resource

Suite Setup       Take A Host
Suite Teardown    Give The Host Back
Test Setup        Remember Its Memory
Test Teardown     Give Back Namespaces And Memory


*** Variables ***
${SYSFS}    /sys/bus/nd/devices
# The pages stay in the pipe as references that the kernel cannot move. They are user memory, which the kernel allocates
# from the movable zone first.
${PIN}      SEPARATOR=\n
...         import ctypes, mmap, os, time
...         memory = mmap.mmap(-1, 32 << 20)
...         for at in range(0, len(memory), 4096): memory[at] = 1
...         class Piece(ctypes.Structure): _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
...         piece = Piece(ctypes.addressof(ctypes.c_char.from_buffer(memory)), 1 << 16)
...         assert ctypes.CDLL(None).vmsplice(os.pipe()[1], ctypes.byref(piece), 1, 0) > 0
...         open("/dev/stdout", "w").write("pinned")
...         time.sleep(120)


*** Test Cases ***
Bytes Written Through One Mapping Are Read Through A New Mapping And In The Raw View
    [Documentation]    Bytes are written and flushed through a mapping. A new mapping and then the block driver read
    ...    them.
    [Tags]    dx-01
    ${namespace} =    Create Devdax Namespace    16MiB
    Write Pattern    ${namespace}    seed=mapped
    Pattern Should Be Intact    ${namespace}    seed=mapped
    ${raw} =    Show Raw    ${namespace}
    Get Namespace Property    ${raw}    mode    ==    raw
    Pattern Should Be Intact    ${raw}
    ...    seed=mapped
    ...    length=${namespace.size}
    ...    at=${{$raw.size - $namespace.size}}
    Show As Device    ${namespace}
    Pattern Should Be Intact    ${namespace}    seed=mapped

A Page That Another Driver Changed Is Found Through The Mapping
    [Documentation]    One page is wiped in the raw view. The mapping shows a difference in exactly that page.
    [Tags]    dx-01
    ${namespace} =    Create Devdax Namespace    16MiB
    Write Pattern    ${namespace}    seed=changed behind
    ${raw} =    Show Raw    ${namespace}
    Wipe Content    ${raw}    offset=${{$raw.size - $namespace.size + 5 * 4096}}    length=4KiB
    ${namespace} =    Show As Device    ${namespace}
    Run Keyword And Expect Error    *differ, the first at byte ${5 * 4096}.
    ...    Pattern Should Be Intact    ${namespace}    seed=changed behind
    Content Should Be Zero    ${namespace}    offset=${5 * 4096}    length=4KiB
    Pattern Should Be Intact    ${namespace}    seed=changed behind    length=${5 * 4096}
    Pattern Should Be Intact    ${namespace}    seed=changed behind    offset=${6 * 4096}

A Range Beyond The End Is Refused Before Anything Is Written
    [Documentation]    Writing and reading are refused across the end and completely beyond it. No byte changes.
    [Tags]    dx-03
    ${namespace} =    Create Devdax Namespace    16MiB
    Write Pattern    ${namespace}    seed=within
    FOR    ${offset}    IN    ${namespace.size - 4096}    ${namespace.size}    ${namespace.size * 2}
        Run Keyword And Expect Error    range '8KiB from *' cannot be used: *within the ${namespace.size}*
        ...    Write Pattern    ${namespace}    seed=past    offset=${offset}    length=8KiB
        Run Keyword And Expect Error    range '8KiB from *' cannot be used: *within the ${namespace.size}*
        ...    Pattern Should Be Intact    ${namespace}    seed=past    offset=${offset}    length=8KiB
    END
    Pattern Should Be Intact    ${namespace}    seed=within

A Failure Of daxio Beyond The End Is Reported
    [Documentation]    With `force=True` daxio gets the range. daxio refuses a range beyond the end. Of a range across
    ...    the end it copies a part and exits 0. Both are failures, and the bytes before the range do not change.
    [Tags]    dx-03
    ${namespace} =    Create Devdax Namespace    16MiB
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
    ${last} =    Evaluate    $namespace.size - 4096
    Run Keyword And Expect Error    *8192 bytes should have been copied*exit status: 0*copied 4096 bytes*
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
    [Documentation]    MemTotal follows. A second call does no harm.
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
    ${namespace} =    Create Devdax Namespace For System RAM
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
    Run Keyword And Expect Error    *system-ram, * online: it is in use (EBUSY)*exit status: 240*
    ...    Reconfigure Dax Device    ${namespace}    mode=devdax    force=False
    Get Dax Device Mode    ${namespace}    ==    system-ram
    MemTotal Should Be    ${GROWN}

Memory With Pages That Cannot Be Moved Stays Online And Loses Nothing
    [Documentation]    A process keeps pages of the new memory in a pipe, from which the kernel cannot move them. The
    ...    error reports the state, and the memory stays online. It can become a device as soon as the process has
    ...    ended.
    [Tags]    dx-02
    VAR    ${told} =    *cannot be moved. Nothing in it is lost: it is system-ram, * online in zone Movable*
    Skip Without Program    python3    install python3 on the host: a process of it pins memory
    ${namespace} =    Create System RAM
    Pin Memory
    Run Keyword And Expect Error    ${told}    Set Dax Memory Offline    ${namespace}    timeout=5 seconds
    Run Keyword And Expect Error
    ...    ${told}
    ...    Reconfigure Dax Device
    ...    ${namespace}
    ...    mode=devdax
    ...    timeout=5 seconds
    MemTotal Should Be    ${GROWN}
    End Background Process
    Reconfigure Dax Device    ${namespace}    mode=devdax
    Should Be A Device    ${namespace}

A Missing Module Is Loaded
    [Documentation]    The test unloads kmem if nothing on the host is system RAM. The keyword loads kmem.
    [Tags]    dx-02
    ${devices} =    Get Dax Devices
    Skip If    any(device.mode == 'system-ram' for device in $devices)
    ...    Device DAX of others is system RAM on this host: its module cannot be unloaded.
    ${namespace} =    Create Devdax Namespace For System RAM
    Run On Host    udevadm    settle
    Run On Host    modprobe    --remove    kmem    expected_status=${None}
    ${there} =    Run On Host    test    -d    /sys/module/kmem    expected_status=${None}
    Skip If    $there.exit_status == 0    The module kmem is built into this host's kernel.
    Make System RAM    ${namespace}
    Run On Host    test    -d    /sys/module/kmem

A Namespace In Use Does Not Become System RAM
    [Documentation]    A process has the device open. The error names the process, and the device stays.
    [Tags]    dx-02
    ${namespace} =    Create Devdax Namespace For System RAM
    ${pid} =    Run In Background    exec sleep 120 <>"$1"    ${namespace.device}
    Run Keyword And Expect Error    *is in use on *: process ${pid} (sleep)*
    ...    Reconfigure Dax Device    ${namespace}    mode=system-ram
    Should Be A Device    ${namespace}

A Namespace Without A Whole Memory Block Stays A Device
    [Documentation]    daxctl would unbind the device from its driver and then fail. The keyword refuses before that.
    [Tags]    dx-02
    ${namespace} =    Create Devdax Namespace    16MiB
    ${block} =    Get Memory Block Size
    Skip If    $namespace.size >= $block    The smallest namespace of this host may hold a whole memory block.
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
    [Tags]    dax
    ${namespace} =    Create Devdax Namespace    16MiB
    ${regions} =    Get Dax Regions
    FOR    ${region}    IN    @{regions}
        IF    $namespace.chardev in str($region.devices)
            Run Keyword And Expect Error    *is static*    Create Dax Device    ${region}    size=16MiB
        END
    END
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

Create Devdax Namespace
    [Documentation]    Create a devdax namespace with its page map in memory, in the region with the most room.
    [Arguments]    ${size}
    ${region} =    Get Region With Largest Free Extent    at_least=${size}
    ${namespace} =    Create Namespace    ${region}    mode=devdax    map=mem    size=at least ${size}    name=dax
    RETURN    ${namespace}

Create Devdax Namespace For System RAM
    [Documentation]    Create a devdax namespace that contains a whole memory block of the host at any start address.
    ${block} =    Get Memory Block Size
    ${namespace} =    Create Devdax Namespace    ${{2 * $block}}
    RETURN    ${namespace}

Get Memory Block Size
    [Documentation]    Return the size in bytes of a memory block of the host's kernel.
    ${read} =    Run On Host    cat    /sys/devices/system/memory/block_size_bytes
    RETURN    ${{int($read.text, 16)}}

Create System RAM
    [Documentation]    Create a devdax namespace and turn it into system RAM.
    ${namespace} =    Create Devdax Namespace For System RAM
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

Create Foreign Namespace
    [Documentation]    Create a devdax namespace without this run's mark, as another user would.
    ${region} =    Get Region With Largest Free Extent    at_least=16MiB
    VAR    ${script} =    umask 077; mkdir -p /run/vpmem/locks && exec flock "/run/vpmem/locks/$1"
    ...    ndctl create-namespace --region "$1" --mode devdax --size "$2" --name foreign
    ...    separator=${SPACE}
    ${size} =    Get Smallest Namespace Size    ${region}
    Run On Host    sh    -c    ${script}    sh    ${region.dev}    ${{int($size)}}
    ${namespace} =    Get Namespace    foreign
    RETURN    ${namespace}

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
        ${zone} =    Run On Host    cat    /sys/devices/system/memory/memory${block.number}/valid_zones
        Should Be Equal    ${zone.text.strip()}    Movable
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

Set Force Raw
    [Documentation]    Disable a namespace, set whether the kernel ignores its info block, and enable it.
    [Arguments]    ${namespace}    ${value}
    Disable Namespace    ${namespace}
    Run On Host    sh    -c    echo "$1" >"$2"    sh    ${value}    ${SYSFS}/${namespace.dev}/force_raw
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
    VAR    ${mode_of} =    ${{{device.chardev: device.mode for device in $devices}}}
    Should Be Equal    ${mode_of}[${namespace.chardev}]    ${mode}

Pin Memory
    [Documentation]    Start a process whose pages cannot be moved.
    Run In Background    exec python3 -c "$1"    ${PIN}
    Wait Until Keyword Succeeds    20 s    200 ms    Background Process Should Have Said    pinned

Run In Background
    [Documentation]    Start a shell line on the host that continues after this command, and return its process id.
    [Arguments]    ${line}    @{arguments}
    ${file} =    Run On Host    mktemp
    ${started} =    Run On Host    sh    -c
    ...    out=$1; shift; sh -c "$@" >"$out" 2>&1 </dev/null & echo $!
    ...    sh    ${file.text.strip()}    ${line}    sh    @{arguments}
    VAR    ${PROCESS} =    ${started.text.strip()}    scope=SUITE
    VAR    ${OUTPUT} =    ${file.text.strip()}    scope=SUITE
    RETURN    ${PROCESS}

Background Process Should Have Said
    [Documentation]    Check the output of the background process.
    [Arguments]    ${text}
    ${said} =    Run On Host    cat    ${OUTPUT}
    Should Contain    ${said.text}    ${text}

End Background Process
    [Documentation]    End the background process, if there is one, and wait until it has ended.
    IF    $PROCESS
        Run On Host    sh    -c    kill -KILL "$1"; while kill -0 "$1" 2>/dev/null; do :; done; rm -f "$2"
        ...    sh    ${PROCESS}    ${OUTPUT}
    END
    VAR    ${PROCESS} =    ${EMPTY}    scope=SUITE
