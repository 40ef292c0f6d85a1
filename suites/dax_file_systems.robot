*** Settings ***
Documentation     File systems on persistent memory, on a host and in a guest. The kernel itself reports whether files
...               are DAX and whether it grants MAP_SYNC. Mount options do not prove it.
...
...               One guest with an nvdimm and a virtio-pmem device is booted once and shared by the tests.

Resource          ../resources/guest.resource

Suite Setup       Make Namespaces On A Host And In A Guest
Suite Teardown    Remove The File And Give The Host Back
Test Teardown     Unmount What Is Mounted


*** Variables ***
# XFS needs more than 300MiB.
${SIZE}    352MiB
${FILE}    ${EMPTY}


*** Test Cases ***
Files Of Ext4 And XFS Are DAX On The Host
    [Documentation]    statx and the page cache confirm DAX. The kernel's mount table has the device. Bytes survive a
    ...    new mount.
    [Tags]    df-01
    Switch Host    ${OUTSIDE}
    FOR    ${type}    IN    ext4    xfs
        File System Should Be Dax And Keep A File    ${ON_HOST}    ${type}
    END

Files Of Ext4 And XFS Are DAX In A Guest
    [Documentation]    The same keywords run on a namespace inside the guest's device.
    [Tags]    df-01
    Switch Host    inside
    FOR    ${type}    IN    ext4    xfs
        File System Should Be Dax And Keep A File    ${IN_GUEST}    ${type}
    END

Files Are DAX Only If The Mount Option And The File's Flag Say So
    [Documentation]    No file is DAX with dax=never. With dax=inode, a file is DAX if its directory has the flag.
    [Tags]    df-01
    Switch Host    ${OUTSIDE}
    Make File System    ${ON_HOST}    xfs    overwrite=True
    ${mount} =    Mount File System    ${ON_HOST}    dax=never
    Get File Access    ${mount}    ==    page cache
    Run Keyword And Expect Error
    ...    *is not DAX: *4MiB of 4MiB are in the page cache*
    ...    Mount Should Be Dax
    ...    ${mount}
    Unmount File System    ${mount}
    ${mount} =    Mount File System    ${ON_HOST}    dax=inode
    Get File Access    ${mount}    ==    page cache
    Set Flag For DAX    ${mount.mount_point}
    Get File Access    ${mount}    ==    dax

A Mount Without The Requested DAX Is A Failure
    [Documentation]    mount with dax=always on XFS in a sector namespace exits 0, but without DAX. The keyword fails
    ...    and leaves no mount.
    [Tags]    df-01
    Switch Host    ${OUTSIDE}
    Make File System    ${ON_SECTOR}    xfs    overwrite=True
    Run Keyword And Expect Error    *the kernel has it with dax=never*exit status: 0*
    ...    Mount File System    ${ON_SECTOR}    dax=always
    Run On Host    grep    ${ON_SECTOR.blockdev}    /proc/self/mountinfo    expected_status=1
    ${mount} =    Mount File System    ${ON_SECTOR}    dax=never
    Get File Access    ${mount}    ==    page cache

A Device With A File System Or A Mount Is Not Overwritten
    [Documentation]    A file system is replaced only with `overwrite=True`, and never while it is mounted.
    [Tags]    df-01
    Switch Host    ${OUTSIDE}
    ${made} =    Make File System    ${ON_HOST}    ext4    overwrite=True
    Run Keyword And Expect Error    *this device holds ext4*overwrite=True*    Make File System    ${ON_HOST}    xfs
    ${mount} =    Mount File System    ${ON_HOST}
    Run Keyword And Expect Error    *is in use*mounted at ${mount.mount_point}*
    ...    Make File System    ${ON_HOST}    xfs    overwrite=True
    Run Keyword And Expect Error    *is in use*mounted at*    Destroy Namespace    ${ON_HOST}
    ${uuid} =    Get Output Of Host    blkid    -p    -o    value    -s    UUID    ${ON_HOST.device}
    Should Be Equal    ${uuid}    ${made.uuid}

MAP_SYNC Is Granted On DAX And Refused Otherwise
    [Documentation]    On the host and in the guest, with ext4 with and without DAX, device DAX, and memory.
    [Tags]    df-02
    Switch Host    ${OUTSIDE}
    Map Sync Should Follow Dax    ${ON_HOST}
    Get Map Sync    ${BACKING.device}    ==    granted
    Get Map Sync    /dev/shm    ==    EOPNOTSUPP
    Switch Host    inside
    Map Sync Should Follow Dax    ${IN_GUEST}
    Get Map Sync    /dev/shm    ==    EOPNOTSUPP

MAP_SYNC Is Refused On Virtio-Pmem
    [Documentation]    Files on virtio-pmem are DAX, but only fsync makes them persistent.
    [Tags]    df-02    vp-02
    Skip Unless Guests Have Virtio Pmem
    Switch Host    inside
    ${namespace} =    Get Namespace    ${VIRTIO}
    Make File System    ${namespace}    ext4    overwrite=True    foreign=True
    ${mount} =    Mount File System    ${namespace}    foreign=True
    Mount Should Be Dax    ${mount}
    Get Map Sync    ${mount}    ==    EOPNOTSUPP

QEMU Maps The Nvdimm With MAP_SYNC
    [Documentation]    The host's kernel shows the flag on QEMU's mapping of the devdax node.
    [Tags]    df-02
    Switch Host    ${OUTSIDE}
    Get Guest Mapping Flags    ${GUEST}    ${BACKING}    contains    sf
    Get Guest Mapping Flags    ${GUEST}    ${BACKING}    contains    sh

QEMU Maps The Virtio-Pmem File Without MAP_SYNC
    [Documentation]    The host's kernel shows no such flag on QEMU's mapping of the file.
    [Tags]    df-02    vp-02
    Skip Unless Guests Have Virtio Pmem
    Switch Host    ${OUTSIDE}
    Get Guest Mapping Flags    ${GUEST}    ${FILE}    not contains    sf

A Leaked Mount Is Reported And Cleaned Up
    [Documentation]    The test runs in the guest, so that the namespaces of the run on the host are kept.
    [Tags]    ow-02
    Switch Host    inside
    Remember Host State
    Make File System    ${IN_GUEST}    ext4    overwrite=True
    ${mount} =    Mount File System    ${IN_GUEST}
    Run Keyword And Expect Error    *leaked: mount of ${IN_GUEST.device} at ${mount.mount_point} (ext4)*
    ...    Host State Should Be Unchanged
    Clean Up Host
    Run On Host    grep    ${mount.mount_point}    /proc/self/mountinfo    expected_status=1
    Run On Host    test    -e    ${mount.mount_point}    expected_status=1


*** Keywords ***
Make Namespaces On A Host And In A Guest
    [Documentation]    Create block devices on the host. In the guest, create a namespace on the nvdimm, and find the
    ...    virtio-pmem namespace.
    Take A Host With Xfsprogs
    ${region} =    Get Region With Room    at_least=704MiB
    ${on_host} =    Create Namespace    ${region}    mode=fsdax    size=at least ${SIZE}    name=on-host
    ${on_sector} =    Create Namespace    ${region}    mode=sector    size=at least ${SIZE}    name=on-sector
    VAR    ${ON_HOST} =    ${on_host}    scope=SUITE
    VAR    ${ON_SECTOR} =    ${on_sector}    scope=SUITE
    Boot A Guest With Both Kinds Of Device
    Create Namespace In The Guest

Remove The File And Give The Host Back
    [Documentation]    Remove the file. The guest's QEMU still has the file open until the guest ends.
    TRY
        IF    $FILE
            Switch Host    ${OUTSIDE}
            Run On Host    rm    -f    ${FILE}
        END
    FINALLY
        Give The Host Back
    END

Take A Host With Xfsprogs
    [Documentation]    Take a host. Skip if the host cannot report whether a file is DAX.
    Take A Fitting Host Or Skip    mapping    labels
    ${aliases} =    Get Open Hosts
    VAR    ${OUTSIDE} =    ${aliases}[0]    scope=SUITE
    Skip Unless Program Is Installed    xfs_io    install xfsprogs on the host

Boot A Guest With Both Kinds Of Device
    [Documentation]    Boot a guest with an nvdimm whose region is a multiple of 16MiB, and a virtio-pmem device, which
    ...    needs a file. Without libvirt's support, boot the guest without the virtio-pmem device.
    ${backing} =    Create Devdax Namespace    416MiB    backing
    VAR    ${BACKING} =    ${backing}    scope=SUITE
    Wipe Content    ${BACKING}    length=4MiB
    ${nvdimm} =    New Vpmem Device    ${BACKING}    size=386MiB    label_size=128KiB
    Create A File Of 64MiB
    ${virtio} =    New Vpmem Device    ${FILE}    model=virtio_pmem    size=64MiB
    VAR    @{both} =    ${nvdimm}    ${virtio}
    ${guest} =    Start New Guest With Virtio Pmem    ${both}
    IF    $guest is None
        ${guest} =    Start New Guest    vpmem=${nvdimm}
    END
    VAR    ${GUEST} =    ${guest}    scope=SUITE

Set Flag For DAX
    [Documentation]    Set the flag of a directory that makes its new files DAX.
    [Arguments]    ${directory}
    Run On Host    xfs_io    -c    chattr +x    ${directory}

Create A File Of 64MiB
    [Documentation]    Create the file for the virtio-pmem device.
    ${file} =    Get Output Of Host    mktemp    --tmpdir\=/var/tmp    vpmem-XXXXXX
    VAR    ${FILE} =    ${file}    scope=SUITE
    Run On Host    fallocate    -l    64MiB    ${FILE}

Create Namespace In The Guest
    [Documentation]    Open the guest as a host, and find its two regions by their providers.
    Open Guest As Host    ${GUEST}    alias=inside
    Skip Unless Program Is Installed    xfs_io    put xfsprogs into the guest's image
    ${nvdimms} =    Get Regions    ==    1    on_dimms=True
    VAR    ${nvdimm} =    ${nvdimms}[0]
    Initialize Labels    ${nvdimm}    overwrite=True    foreign=True
    ${namespace} =    Create Namespace    ${nvdimm}    mode=fsdax    size=at least ${SIZE}    name=in-guest
    VAR    ${IN_GUEST} =    ${namespace}    scope=SUITE
    IF    $NO_VIRTIO_PMEM    RETURN
    ${virtios} =    Get Regions    ==    1    on_dimms=False
    VAR    ${VIRTIO} =    ${virtios[0].namespaces[0]}    scope=SUITE

Unmount What Is Mounted
    [Documentation]    Unmount the file systems that a test left mounted, on the host and in the guest.
    FOR    ${alias}    IN    inside    ${OUTSIDE}
        Switch Host    ${alias}
        Unmount Own File Systems
    END

File System Should Be Dax And Keep A File
    [Documentation]    Make and mount a file system. Check that it is DAX, and that a file's bytes survive a new mount.
    [Arguments]    ${namespace}    ${type}
    Make File System    ${namespace}    ${type}    overwrite=True
    Get File System    ${namespace}    ==    ${type}
    ${mount} =    Mount File System    ${namespace}    dax=always
    Kernel Should Have Mounted    namespace=${namespace}    mount=${mount}    type=${type}
    Mount Should Be Dax    ${mount}
    Run On Host    truncate    -s    8M    ${mount.mount_point}/file
    Write Pattern    ${mount.mount_point}/file    seed=${type}    foreign=True
    Unmount File System    ${mount}
    ${mount} =    Mount File System    ${namespace}    dax=always
    Pattern Should Be Intact    ${mount.mount_point}/file    seed=${type}
    [Teardown]    Unmount File System    ${mount}

Kernel Should Have Mounted
    [Documentation]    Fail unless the kernel's mount table has the device number, the type and the option at the mount
    ...    point.
    [Arguments]    ${namespace}    ${mount}    ${type}
    ${device} =    Get Output Of Host    cat    /sys/class/block/${namespace.blockdev}/dev
    Run On Host    grep    ${device} / ${mount.mount_point} .* - ${type} .*dax\=always
    ...    /proc/self/mountinfo

Map Sync Should Follow Dax
    [Documentation]    Check on one file system that MAP_SYNC is granted with dax=always and refused with dax=never.
    [Arguments]    ${namespace}
    Make File System    ${namespace}    ext4    overwrite=True
    FOR    ${dax}    ${answer}    IN    always    granted    never    EOPNOTSUPP
        ${mount} =    Mount File System    ${namespace}    dax=${dax}
        Get Map Sync    ${mount}    ==    ${answer}
        Unmount File System    ${mount}
    END
