*** Settings ***
Documentation     What a guest's devices may lie on, and what of its writes is there afterwards: predicted from the
...               device and its backing, and shown by content after the guest was destroyed and started.
...
...               One guest with a device of each kind is booted once; its tests follow one another.

Library           Collections
Library           String
Resource          ../resources/guest.resource

Suite Setup       Boot A Guest With A Device Of Each Kind
Suite Teardown    Remove The Files And Give The Host Back


*** Variables ***
${SIZE}         18MiB
${LENGTH}       1MiB
${IN_MEMORY}    ${EMPTY}
@{WRITTEN}      devdax    dax-file    plain-file    memory-file    private    missing


*** Test Cases ***
Each Backing Is Of The Kind That Was Made
    [Documentation]    By the host's kernel; and what each is, every view of the guest agrees on.
    [Tags]    gd-03    df-03
    FOR    ${name}    ${kind}    IN
    ...    devdax    devdax
    ...    dax-file    dax file
    ...    plain-file    plain file
    ...    memory-file    memory file
        Get Backing Kind    ${DEVICES}[${name}]    ==    ${kind}
    END
    All Views Should Agree    ${GUEST}

QEMU Maps A DAX File With MAP_SYNC And A Plain File Without
    [Documentation]    The flag is the host's kernel's, on the mapping of the running QEMU.
    [Tags]    df-03    df-02
    FOR    ${name}    ${operator}    IN
    ...    devdax    contains
    ...    dax-file    contains
    ...    plain-file    not contains
    ...    memory-file    not contains
        Get Guest Mapping Flags    ${GUEST}    ${DEVICES}[${name}]    ${operator}    sf
    END

A Guest Cannot Write To A Readonly Device
    [Documentation]    Its kernel has the region read-only, writing and mkfs fail, and no byte on the host changes.
    [Tags]    gd-06
    VAR    ${device} =    ${DEVICES}[readonly]
    ${before} =    Get Namespace Checksum    ${device.path}
    ${node} =    Get Guest Device Node    ${GUEST}    ${device}
    ${attribute} =    Run In Guest    ${GUEST}    sh    -c    cat /sys/class/block/\${1##*/}/device/../read_only
    ...    sh    ${node}
    Should Be Equal As Integers    ${attribute.text}    1
    Run Keyword And Expect Error
    ...    *dd failed*${node}*Operation not permitted*
    ...    Write Pattern In Guest
    ...    ${GUEST}
    ...    ${device}
    ...    seed=forbidden
    ...    length=${LENGTH}
    Run In Guest    ${GUEST}    mkfs.ext4    -F    ${node}    expected_status=1
    ${after} =    Get Namespace Checksum    ${device.path}
    Should Be Equal    ${after}    ${before}

What Each Backing Keeps Is As Predicted
    [Documentation]    The guest is destroyed and started: it reads the pattern, or what was there before it wrote.
    [Tags]    gd-03    df-03
    ${before} =    Get Guest Boot Id    ${GUEST}
    FOR    ${name}    IN    @{WRITTEN}
        Guest Pattern Should Be Intact    ${GUEST}    ${DEVICES}[${name}]    seed=${name}    length=${LENGTH}
    END
    Destroy Guest    ${GUEST}
    Start Guest    ${GUEST}
    Get Guest Boot Id    ${GUEST}    !=    ${before}
    FOR    ${name}    IN    @{WRITTEN}
        Guest Should Have Kept What Was Predicted    ${name}
    END

The Host Reads In A Shared Backing What The Guest Wrote
    [Documentation]    At the predicted offset of the node or file itself.
    [Tags]    gd-03    df-03
    FOR    ${name}    IN    devdax    dax-file    plain-file    memory-file
        Host Should Hold Guest Pattern    ${GUEST}    ${{$DEVICES[$name].path}}    seed=${name}    length=${LENGTH}
    END

Without Shared Access Nothing Reaches The Backing
    [Documentation]    Predicted, refused unless wanted so, and seen: the file on the host is all zeros, by the host.
    [Tags]    gd-07
    FOR    ${name}    IN    private    missing
        VAR    ${device} =    ${DEVICES}[${name}]
        ${predicted} =    Get Predicted Persistence    ${device}
        Should Be Equal    ${{$predicted.restart, $predicted.power_loss}}    ${{False, False}}
        Run Keyword And Expect Error    *access of ${device.path}*nothing persists*    Define Guest    vpmem=${device}
        Content Should Be Zero    ${device.path}
    END

Device DAX That Is Not Shared Is Refused
    [Documentation]    The kernel maps it shared or not at all, so that QEMU would not start.
    [Tags]    gd-07
    ${device} =    New Vpmem Device    ${{$DEVICES["devdax"].path}}    size=${SIZE}    shared=False
    Run Keyword And Expect Error    *device DAX cannot be mapped otherwise*    Define Guest    vpmem=${device}
    ...    shared_only=False

Memory On Memfd Is Gone With Its QEMU
    [Documentation]    libvirt gives memfd to RAM alone: a device always lies on a path. A file in that RAM is gone.
    [Tags]    gd-03
    ${process} =    Get Guest Process    ${GUEST}
    ${argv} =    Run On Host    sh    -c    tr '\\000' ' ' <"/proc/$1/cmdline"    sh    ${process}
    Should Contain    ${argv.text}    "qom-type":"memory-backend-memfd"
    Should Contain X Times    ${argv.text}    "qom-type":"memory-backend-file"    ${{len($DEVICES)}}
    Run In Guest    ${GUEST}    test    -e    /run/written-before    expected_status=1


*** Keywords ***
Boot A Guest With A Device Of Each Kind
    [Documentation]    Its memory is a memfd; a pattern of its own is written to each device, and a file to its memory.
    Take A Host
    Skip Without Program    xfs_io    install xfsprogs on the host
    Describe Devices Of Each Kind
    ${xml} =    New Guest Xml    vpmem=${{list($DEVICES.values())}}
    ${xml} =    String.Replace String    ${xml}    <maxMemory
    ...    <memoryBacking><source type\="memfd"/></memoryBacking><maxMemory
    ${made} =    Define Guest From Xml    ${xml}    shared_only=False
    Start Guest    ${made}
    VAR    ${GUEST} =    ${made}    scope=SUITE
    FOR    ${name}    IN    @{WRITTEN}
        Write Pattern In Guest    ${made}    ${DEVICES}[${name}]    seed=${name}    length=${LENGTH}
    END
    Run In Guest    ${made}    touch    /run/written-before

Describe Devices Of Each Kind
    [Documentation]    On a devdax node, and on files in a DAX file system, in one without DAX, and in memory.
    ${namespace} =    Create Devdax Namespace    32MiB    backing
    ${dax} =    Make Files On A File System    fsdax    always    dax-file
    ${plain} =    Make Files On A File System    sector    never    plain-file    private    missing    readonly
    Make A File In Memory
    VAR    &{DEVICES} =    &{EMPTY}    scope=SUITE
    Describe Device    devdax    ${namespace}
    Describe Device    dax-file    ${dax}/dax-file
    Describe Device    memory-file    ${IN_MEMORY}
    Describe Devices In    ${plain}

Describe Devices In
    [Documentation]    On files in a file system without DAX, among them those that do not persist.
    [Arguments]    ${directory}
    Describe Device    plain-file    ${directory}/plain-file
    Describe Device    private    ${directory}/private    shared=False
    Describe Device    missing    ${directory}/missing    shared=${None}
    Describe Device    readonly    ${directory}/readonly    readonly=True

Describe Device
    [Documentation]    Adds a device to those that the guest is given.
    [Arguments]    ${name}    ${backing}    &{options}
    ${device} =    New Vpmem Device    ${backing}    size=${SIZE}    &{options}
    Collections.Set To Dictionary    ${DEVICES}    ${name}    ${device}

Make Files On A File System
    [Documentation]    Makes a namespace with ext4, mounts it, and returns where; its files hold zeros.
    [Arguments]    ${mode}    ${dax}    @{names}
    ${region} =    Get Roomiest Region    at_least=128MiB
    ${namespace} =    Create Namespace    ${region}    mode=${mode}    size=at least 128MiB
    Make File System    ${namespace}    ext4    overwrite=True
    ${mount} =    Mount File System    ${namespace}    dax=${dax}
    FOR    ${name}    IN    @{names}
        Run On Host    fallocate    -l    ${SIZE}    ${mount.mount_point}/${name}
    END
    RETURN    ${mount.mount_point}

Make A File In Memory
    [Documentation]    In the tmpfs that every host has.
    ${file} =    Run On Host    mktemp    --tmpdir\=/run    vpmem-XXXXXX
    VAR    ${IN_MEMORY} =    ${file.text.strip()}    scope=SUITE
    Run On Host    fallocate    -l    ${SIZE}    ${IN_MEMORY}

Remove The Files And Give The Host Back
    [Documentation]    What lies on a namespace goes with it; what lies in memory is removed by name.
    TRY
        IF    $IN_MEMORY    Run On Host    rm    -f    ${IN_MEMORY}
    FINALLY
        Give The Host Back
    END

Guest Should Have Kept What Was Predicted
    [Documentation]    Compares what a device holds with its pattern, and how that ends with the prediction.
    [Arguments]    ${name}
    ${predicted} =    Get Predicted Persistence    ${DEVICES}[${name}]
    IF    $predicted.restart
        Guest Pattern Should Be Intact    ${GUEST}    ${DEVICES}[${name}]    seed=${name}    length=${LENGTH}
    ELSE
        Run Keyword And Expect Error    *does not hold 1MiB of pattern*
        ...    Guest Pattern Should Be Intact    ${GUEST}    ${DEVICES}[${name}]    seed=${name}    length=${LENGTH}
    END
