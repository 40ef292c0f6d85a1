*** Settings ***
Documentation     Device DAX as a device, as the host's own RAM, and as a device again.
...
...               Bytes are proven in the raw view of the same namespace, which another driver offers; memory is proven
...               by /proc/meminfo and the kernel's memory blocks rather than by daxctl's word.

Resource          ../resources/host.resource

Suite Setup       Take A Host
Suite Teardown    Give The Host Back
Test Setup        Remember Its Memory
Test Teardown     Give Back Namespaces And Memory


*** Variables ***
${SYSFS}    /sys/bus/nd/devices
# The pages stay in the pipe, as references that the kernel cannot move; they are user memory, which lies in the movable
# zone first.
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
Bytes Written Through One Mapping Are Read Through Another And In The Raw View
    [Documentation]    Written and flushed through a mapping, read through a new one, then by the block driver.
    [Tags]    dx-01
    ${namespace} =    Create Devdax Namespace    16MiB
    Write Pattern    ${namespace}    seed=mapped
    Pattern Should Be Intact    ${namespace}    seed=mapped
    ${raw} =    Show Raw    ${namespace}
    Get Namespace Mode    ${raw}    ==    raw
    Pattern Should Be Intact    ${raw}
    ...    seed=mapped
    ...    length=${namespace.size}
    ...    at=${{$raw.size - $namespace.size}}
    Show As Device    ${namespace}
    Pattern Should Be Intact    ${namespace}    seed=mapped

A Page That Another Driver Changed Is Found Through The Mapping
    [Documentation]    One page is wiped in the raw view; the mapping shows exactly that page, by offset and number.
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

A Range Past The End Is Refused Before Anything Is Written
    [Documentation]    Writing and reading, across the end and wholly past it; every byte is as before.
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

The Tool's Own Refusal Of A Range Past The End Is Passed On
    [Documentation]    Left to itself, daxio refuses what lies past the end, and of what crosses it copies a part and
    ...    exits 0: both are failures, and what lies before the range is as before.
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
    [Documentation]    MemTotal grows and shrinks by what was predicted, to the kB; the device is whole afterwards.
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
    [Documentation]    MemTotal follows, and twice is harmless.
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

System RAM May Begin Offline
    [Documentation]    Where the kernel puts new memory online by itself, too; offline, it is made a device unforced.
    [Tags]    dx-02
    ${namespace} =    Create Devdax Namespace For System RAM
    Run Keyword And Expect Error    *is devdax: it is no memory*    Set Dax Memory Online    ${namespace}
    Reconfigure Dax Device    ${namespace}    mode=system-ram    online=False
    Get Dax Device Mode    ${namespace}    ==    system-ram
    MemTotal Should Be    ${BEFORE}
    Reconfigure Dax Device    ${namespace}    mode=devdax    force=False
    Should Be A Device    ${namespace}

Online Memory Is Not Made A Device Without Being Put Offline
    [Documentation]    daxctl's own refusal, with its exit status, and the memory is as it was.
    [Tags]    dx-02
    ${namespace} =    Create System RAM
    Run Keyword And Expect Error    *system-ram, * online: it is in use (EBUSY)*exit status: 240*
    ...    Reconfigure Dax Device    ${namespace}    mode=devdax    force=False
    Get Dax Device Mode    ${namespace}    ==    system-ram
    MemTotal Should Be    ${GROWN}

Memory That Cannot Be Moved Stays And Loses Nothing
    [Documentation]    A process has pages of the new memory in a pipe, where they cannot be moved from. The failure
    ...    tells the state, the memory is online as before, and it comes back as soon as the process has gone.
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

The Module Is Loaded When It Is Missing
    [Documentation]    kmem is unloaded, where nothing on the host is system RAM; the keyword loads it.
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

A Namespace In Use Becomes No System RAM
    [Documentation]    A process has the device open: refused by name, and the device is still there.
    [Tags]    dx-02
    ${namespace} =    Create Devdax Namespace For System RAM
    ${pid} =    Run In Background    exec sleep 120 <>"$1"    ${namespace.device}
    Run Keyword And Expect Error    *is in use on *: process ${pid} (sleep)*
    ...    Reconfigure Dax Device    ${namespace}    mode=system-ram
    Should Be A Device    ${namespace}

A Namespace Without A Whole Memory Block Is Refused And Stays A Device
    [Documentation]    daxctl would take the device from its driver and then fail; it is refused before that.
    [Tags]    dx-02
    ${namespace} =    Create Devdax Namespace    16MiB
    ${block} =    Get Memory Block Size
    Skip If    $namespace.size >= $block    The smallest namespace of this host may hold a whole memory block.
    ${growth} =    Get Predicted Memory Growth    ${namespace}
    Should Be Equal As Integers    ${growth}    0
    Run Keyword And Expect Error    *expected one that holds a whole memory block*
    ...    Reconfigure Dax Device    ${namespace}    mode=system-ram
    Should Be A Device    ${namespace}

System RAM Is Neither Disabled Nor Destroyed And Goes With The Run
    [Documentation]    The namespace is in use by the host itself. Cleanup makes it a device first, and destroys it.
    [Tags]    dx-02
    ${namespace} =    Create System RAM
    Run Keyword And Expect Error    *in use*as system RAM*    Disable Namespace    ${namespace}
    Run Keyword And Expect Error    *in use*as system RAM*    Destroy Namespace    ${namespace}
    Get Dax Device Mode    ${namespace}    ==    system-ram
    Clean Up Host
    Namespace Should Not Exist    ${namespace}
    MemTotal Should Be    ${BEFORE}

A Namespace Of Another Run Is Left As It Is
    [Documentation]    A namespace without this run's mark: refused by every keyword that would change it.
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

The One Instance Of A Namespace Is Neither Resized Nor Destroyed
    [Documentation]    daxctl would disable it and then fail; it is refused before that, and nothing is cut beside it.
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
    [Documentation]    Notes MemTotal, to which every test must return.
    VAR    ${PROCESS} =    ${EMPTY}    scope=SUITE
    ${total} =    Get Memory Total
    VAR    ${BEFORE} =    ${total}    scope=SUITE

Give Back Namespaces And Memory
    [Documentation]    Removes what the test made; the host's memory must be what it was.
    End Background Process
    Clean Up Host
    MemTotal Should Be    ${BEFORE}

Create Devdax Namespace
    [Documentation]    Makes a devdax namespace with its page map in memory, in the region with the most room.
    [Arguments]    ${size}
    ${region} =    Get Roomiest Region    at_least=${size}
    ${namespace} =    Create Namespace    ${region}    mode=devdax    map=mem    size=at least ${size}    name=dax
    RETURN    ${namespace}

Create Devdax Namespace For System RAM
    [Documentation]    Makes a devdax namespace that holds a whole memory block of the host, wherever it begins.
    ${block} =    Get Memory Block Size
    ${namespace} =    Create Devdax Namespace    ${{2 * $block}}
    RETURN    ${namespace}

Get Memory Block Size
    [Documentation]    Returns how many bytes the host's kernel takes into use as one.
    ${read} =    Run On Host    cat    /sys/devices/system/memory/block_size_bytes
    RETURN    ${{int($read.text, 16)}}

Create System RAM
    [Documentation]    Makes a devdax namespace, and system RAM of it.
    ${namespace} =    Create Devdax Namespace For System RAM
    Make System RAM    ${namespace}
    RETURN    ${namespace}

Make System RAM
    [Documentation]    Makes system RAM of a namespace; MemTotal must grow by what was predicted.
    [Arguments]    ${namespace}
    ${growth} =    Get Predicted Memory Growth    ${namespace}
    Should Be True    $growth > 0
    VAR    ${GROWN} =    ${{$BEFORE + $growth}}    scope=SUITE
    Reconfigure Dax Device    ${namespace}    mode=system-ram
    Get Dax Device Mode    ${namespace}    ==    system-ram
    MemTotal Should Be    ${GROWN}

Create Foreign Namespace
    [Documentation]    Makes a devdax namespace as another would, without this run's mark.
    ${region} =    Get Roomiest Region    at_least=16MiB
    VAR    ${script} =    umask 077; mkdir -p /run/vpmem/locks && exec flock "/run/vpmem/locks/$1"
    ...    ndctl create-namespace --region "$1" --mode devdax --size "$2" --name foreign
    ...    separator=${SPACE}
    ${size} =    Get Smallest Namespace Size    ${region}
    Run On Host    sh    -c    ${script}    sh    ${region.dev}    ${{int($size)}}
    ${namespace} =    Get Namespace    foreign
    RETURN    ${namespace}

Should Be A Device
    [Documentation]    Looks at the driver, and at the host's memory, which must be what it was before the test.
    [Arguments]    ${namespace}
    Get Dax Device Mode    ${namespace}    ==    devdax
    MemTotal Should Be    ${BEFORE}

Every Memory Block Should Be Movable
    [Documentation]    All of the memory blocks together are what MemTotal grew by, and each lies in the movable zone.
    [Arguments]    ${namespace}
    ${memory} =    Get Dax Memory    ${namespace}
    Should Be Equal As Integers    ${{$memory.online * $memory.block_size}}    ${{$GROWN - $BEFORE}}
    FOR    ${block}    IN    @{memory.blocks}
        ${zone} =    Run On Host    cat    /sys/devices/system/memory/memory${block.number}/valid_zones
        Should Be Equal    ${zone.text.strip()}    Movable
    END

Show Raw
    [Documentation]    Lets the block driver show a namespace from its first byte on; nothing is written.
    [Arguments]    ${namespace}
    Set Force Raw    ${namespace}    1
    ${raw} =    Get Namespace    ${namespace}
    RETURN    ${raw}

Show As Device
    [Documentation]    Ends `Show Raw`.
    [Arguments]    ${namespace}
    Set Force Raw    ${namespace}    0
    ${shown} =    Get Namespace    ${namespace}
    RETURN    ${shown}

Set Force Raw
    [Documentation]    Disables a namespace, says whether its info block is to be looked past, and enables it.
    [Arguments]    ${namespace}    ${value}
    Disable Namespace    ${namespace}
    Run On Host    sh    -c    echo "$1" >"$2"    sh    ${value}    ${SYSFS}/${namespace.dev}/force_raw
    Enable Namespace    ${namespace}

MemTotal Should Be
    [Documentation]    Compares /proc/meminfo itself with a number of bytes, to the kB.
    [Arguments]    ${expected}
    ${read} =    Run On Host    grep    ^MemTotal:    /proc/meminfo
    Should Be Equal    ${read.text.split()}    ${{['MemTotal:', str($expected // 1024), 'kB']}}

Daxctl Should List
    [Documentation]    Looks at the mode in daxctl's own listing.
    [Arguments]    ${namespace}    ${mode}
    ${devices} =    Get Dax Devices
    VAR    ${mode_of} =    ${{{device.chardev: device.mode for device in $devices}}}
    Should Be Equal    ${mode_of}[${namespace.chardev}]    ${mode}

Pin Memory
    [Documentation]    Starts a process whose pages cannot be moved.
    Run In Background    exec python3 -c "$1"    ${PIN}
    Wait Until Keyword Succeeds    20 s    200 ms    Background Process Should Have Said    pinned

Run In Background
    [Documentation]    Starts a shell line on the host that outlives this command, and returns its process id.
    [Arguments]    ${line}    @{arguments}
    ${file} =    Run On Host    mktemp
    ${started} =    Run On Host    sh    -c
    ...    out=$1; shift; sh -c "$@" >"$out" 2>&1 </dev/null & echo $!
    ...    sh    ${file.text.strip()}    ${line}    sh    @{arguments}
    VAR    ${PROCESS} =    ${started.text.strip()}    scope=SUITE
    VAR    ${OUTPUT} =    ${file.text.strip()}    scope=SUITE
    RETURN    ${PROCESS}

Background Process Should Have Said
    [Documentation]    Looks at what the process in the background printed.
    [Arguments]    ${text}
    ${said} =    Run On Host    cat    ${OUTPUT}
    Should Contain    ${said.text}    ${text}

End Background Process
    [Documentation]    Ends the process in the background, if there is one, and waits until it has gone.
    IF    $PROCESS
        Run On Host    sh    -c    kill -KILL "$1"; while kill -0 "$1" 2>/dev/null; do :; done; rm -f "$2"
        ...    sh    ${PROCESS}    ${OUTPUT}
    END
    VAR    ${PROCESS} =    ${EMPTY}    scope=SUITE
