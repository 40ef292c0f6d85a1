*** Settings ***
Documentation     The kinds of backing that a guest's device may have, and which writes of the guest persist on each.
...               The library predicts persistence from the device and its backing. The content after the guest was
...               destroyed and started confirms it.
...
...               One guest with a device of each kind is booted once and shared by the tests.

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
Each Backing Has The Kind That Was Created
    [Documentation]    The host's kernel reports the kind of each backing. Every view of the guest agrees.
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
    [Documentation]    The host's kernel reports the flag on the mapping of the running QEMU.
    [Tags]    df-03    df-02
    FOR    ${name}    ${operator}    IN
    ...    devdax    contains
    ...    dax-file    contains
    ...    plain-file    not contains
    ...    memory-file    not contains
        Get Guest Mapping Flags    ${GUEST}    ${DEVICES}[${name}]    ${operator}    sf
    END

A Guest Cannot Write To A Readonly Device
    [Documentation]    The guest's kernel lists the region as read-only. Writing and mkfs fail, and no byte on the host
    ...    changes.
    [Tags]    gd-06
    VAR    ${device} =    ${DEVICES}[readonly]
    ${before} =    Get Namespace Checksum    ${device.path}
    ${node} =    Get Guest Device Node    ${GUEST}    ${device}
    Guest Kernel Should List As Read-Only    ${node}
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

Each Backing Persists As Predicted
    [Documentation]    After a destroy and a start, the guest reads the pattern, or the bytes from before its write.
    [Tags]    gd-03    df-03
    [Setup]    Write A Pattern To Each Device
    ${before} =    Get Guest Boot Id    ${GUEST}
    FOR    ${name}    IN    @{WRITTEN}
        Guest Pattern Should Be Intact    ${GUEST}    ${DEVICES}[${name}]    seed=${name}    length=${LENGTH}
    END
    Stop Guest    ${GUEST}    how=destroy
    Start Guest    ${GUEST}
    Get Guest Boot Id    ${GUEST}    !=    ${before}
    FOR    ${name}    IN    @{WRITTEN}
        Guest Should Have Kept What Was Predicted    ${name}
    END

The Host Reads The Guest's Bytes In A Shared Backing
    [Documentation]    The host reads the node or file itself at the predicted offset.
    [Tags]    gd-03    df-03
    [Setup]    Write A Pattern To Each Device
    [Template]    Host Should Hold Pattern Of Device
    devdax
    dax-file
    plain-file
    memory-file

Without Shared Access Nothing Reaches The Backing
    [Documentation]    The library predicts it, and refuses such a device unless `shared_only=False` allows it. On the
    ...    host the file holds only zeros.
    [Tags]    gd-07
    [Template]    Nothing Should Reach The Backing Of Device
    private
    missing

Unshared Device DAX Is Refused
    [Documentation]    The kernel maps device DAX only as shared, so QEMU would not start.
    [Tags]    gd-07
    VAR    ${shared} =    ${DEVICES}[devdax]
    ${device} =    New Vpmem Device    ${shared.path}    size=${SIZE}    shared=False
    Run Keyword And Expect Error    *device DAX cannot be mapped otherwise*    Define Guest    vpmem=${device}
    ...    shared_only=False

Memfd Memory Is Lost With Its QEMU
    [Documentation]    libvirt uses memfd only for RAM, because a device always needs a path. A file in that RAM is
    ...    lost.
    [Tags]    gd-03
    Memory Of QEMU Should Be Memfd
    Run In Guest    ${GUEST}    touch    /run/written-before
    Stop Guest    ${GUEST}    how=destroy
    Start Guest    ${GUEST}
    Run In Guest    ${GUEST}    test    -e    /run/written-before    expected_status=1


*** Keywords ***
Boot A Guest With A Device Of Each Kind
    [Documentation]    Boot a guest whose memory is a memfd, with a device of each kind.
    Take A Fitting Host Or Skip    mapping    labels
    Skip Unless Program Is Installed    xfs_io    install xfsprogs on the host
    Describe Devices Of Each Kind
    @{devices} =    Collections.Get Dictionary Values    ${DEVICES}    sort_keys=False
    ${xml} =    New Guest Xml    vpmem=${devices}
    ${xml} =    String.Replace String    ${xml}    <maxMemory
    ...    <memoryBacking><source type\="memfd"/></memoryBacking><maxMemory
    ${made} =    Define Guest From Xml    ${xml}    shared_only=False
    Start Guest    ${made}
    VAR    ${GUEST} =    ${made}    scope=SUITE

Write A Pattern To Each Device
    [Documentation]    Write a different pattern to each device that the guest can write to.
    FOR    ${name}    IN    @{WRITTEN}
        Write Pattern In Guest    ${GUEST}    ${DEVICES}[${name}]    seed=${name}    length=${LENGTH}
    END

Guest Kernel Should List As Read-Only
    [Documentation]    Fail unless the guest's kernel has the region of a block device as read-only.
    [Arguments]    ${node}
    ${value} =    Run Script In Guest    ${GUEST}    print_read_only_of_block_device.sh    ${node}
    Should Be Equal As Integers    ${value}    1

Host Should Hold Pattern Of Device
    [Documentation]    Fail unless the host reads the pattern of a device from the backing itself.
    [Arguments]    ${name}
    VAR    ${device} =    ${DEVICES}[${name}]
    Host Should Hold Guest Pattern    ${GUEST}    ${device.path}    seed=${name}    length=${LENGTH}

Nothing Should Reach The Backing Of Device
    [Documentation]    Fail unless the library predicts that nothing persists and refuses the device, and its backing
    ...    contains only zeros.
    [Arguments]    ${name}
    VAR    ${device} =    ${DEVICES}[${name}]
    ${predicted} =    Get Predicted Persistence    ${device}
    Should Not Be True    ${predicted.restart}
    Should Not Be True    ${predicted.power_loss}
    Run Keyword And Expect Error    *access of ${device.path}*nothing persists*    Define Guest    vpmem=${device}
    Content Should Be Zero    ${device.path}

Memory Of QEMU Should Be Memfd
    [Documentation]    Fail unless QEMU's arguments have a memfd, and one file for each device.
    ${process} =    Get Guest Process    ${GUEST}
    ${arguments} =    Get Output Of Host    cat    /proc/${process}/cmdline
    Should Contain    ${arguments}    "qom-type":"memory-backend-memfd"
    ${devices} =    Get Length    ${DEVICES}
    Should Contain X Times    ${arguments}    "qom-type":"memory-backend-file"    ${devices}

Describe Devices Of Each Kind
    [Documentation]    Describe devices on a devdax node, on files in file systems with and without DAX, and in memory.
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
    [Documentation]    Describe devices on files in a file system without DAX. Some of these devices do not persist.
    [Arguments]    ${directory}
    Describe Device    plain-file    ${directory}/plain-file
    Describe Device    private    ${directory}/private    shared=False
    Describe Device    missing    ${directory}/missing    shared=${None}
    Describe Device    readonly    ${directory}/readonly    readonly=True

Describe Device
    [Documentation]    Add a device to the devices of the guest.
    [Arguments]    ${name}    ${backing}    &{options}
    ${device} =    New Vpmem Device    ${backing}    size=${SIZE}    &{options}
    Collections.Set To Dictionary    ${DEVICES}    ${name}    ${device}

Make Files On A File System
    [Documentation]    Create a namespace with ext4, mount it, and return the mount point. The files in it hold zeros.
    [Arguments]    ${mode}    ${dax}    @{names}
    ${region} =    Get Region With Room    at_least=128MiB
    ${namespace} =    Create Namespace    ${region}    mode=${mode}    size=at least 128MiB
    Make File System    ${namespace}    ext4    overwrite=True
    ${mount} =    Mount File System    ${namespace}    dax=${dax}
    FOR    ${name}    IN    @{names}
        Run On Host    fallocate    -l    ${SIZE}    ${mount.mount_point}/${name}
    END
    RETURN    ${mount.mount_point}

Make A File In Memory
    [Documentation]    Create a file in the tmpfs that every host has.
    ${file} =    Get Output Of Host    mktemp    --tmpdir\=/run    vpmem-XXXXXX
    VAR    ${IN_MEMORY} =    ${file}    scope=SUITE
    Run On Host    fallocate    -l    ${SIZE}    ${IN_MEMORY}

Remove The Files And Give The Host Back
    [Documentation]    Remove the file in memory by its name. The files on a namespace go with the namespace.
    TRY
        IF    $IN_MEMORY    Run On Host    rm    -f    ${IN_MEMORY}
    FINALLY
        Give The Host Back
    END

Guest Should Have Kept What Was Predicted
    [Documentation]    Compare the bytes of a device with its pattern, and the result with the prediction.
    [Arguments]    ${name}
    ${predicted} =    Get Predicted Persistence    ${DEVICES}[${name}]
    IF    $predicted.restart
        Guest Pattern Should Be Intact    ${GUEST}    ${DEVICES}[${name}]    seed=${name}    length=${LENGTH}
    ELSE
        Run Keyword And Expect Error    *does not contain 1MiB of pattern*
        ...    Guest Pattern Should Be Intact    ${GUEST}    ${DEVICES}[${name}]    seed=${name}    length=${LENGTH}
    END
