*** Settings ***
Documentation     Write, compare, copy and wipe content on the host itself, on every kind of device.

Resource          ../resources/host.resource

Suite Setup       Take A Host
Suite Teardown    Give The Host Back
Test Setup        Create One Namespace Of Each Kind
Test Teardown     Remove What The Test Made


*** Variables ***
${DIRECTORY}    ${EMPTY}


*** Test Cases ***
Two Devices Of Different Kinds Hold The Same Bytes After A Copy
    [Documentation]    Bytes are copied from device DAX to a block device, and from there to a file. The host's own cmp
    ...    finds them equal.
    [Tags]    ct-01
    Skip Unless Memory Can Be Mapped
    Write Pattern    ${DAX}    seed=original    length=4MiB
    Copy Content    ${DAX}    ${BLOCK}    length=4MiB
    Copy Content    ${BLOCK}    ${FILE}    length=4MiB    foreign=True
    Content Should Be Equal    ${DAX}    ${BLOCK}    length=4MiB
    Content Should Be Equal    ${FILE}    ${DAX}    length=4MiB
    Pattern Should Be Intact    ${FILE}    seed=original    length=4MiB
    Run On Host    cmp    --bytes\=4194304    ${FILE}    ${BLOCK.device}

A Failed Comparison Reports The First Different Byte And The Count
    [Documentation]    Another tool changes three bytes of one copy.
    [Tags]    ct-01
    Write Pattern    ${DAX}    seed=twin    length=4MiB
    Write Pattern    ${FILE}    seed=twin    length=4MiB    foreign=True
    Change Bytes Of File    ${FILE}    offset=1048577    count=3
    Run Keyword And Expect Error    *: 3 of 4194304 bytes from 0B differ, the first at byte 1048577.
    ...    Content Should Be Equal    ${DAX}    ${FILE}    length=4MiB
    Run Keyword And Expect Error    *: 3 of 4194304 bytes from 0B differ, the first at byte 1048577.
    ...    Pattern Should Be Intact    ${FILE}    seed=twin    length=4MiB
    Content Should Be Equal    ${DAX}    ${FILE}    length=1MiB

A Wipe Writes Zeros To Its Range And Changes Nothing Else
    [Documentation]    First a range is wiped, then the whole device to its last byte. The host's own tr finds only
    ...    zeros.
    [Tags]    ct-02
    FOR    ${target}    IN    ${DAX}    ${BLOCK}
        Write Pattern    ${target}    seed=secret
        Wipe Content    ${target}    offset=1MiB    length=8KiB
        Content Should Be Zero    ${target}    offset=1MiB    length=8KiB
        Pattern Should Be Intact    ${target}    seed=secret    length=1MiB
        Pattern Should Be Intact    ${target}    seed=secret    offset=1032KiB
        Run Keyword And Expect Error    *does not contain zeros*the first at byte *
        ...    Content Should Be Zero    ${target}
        Wipe Content    ${target}
        Content Should Be Zero    ${target}
    END
    Host Should Read Only Zeros    ${BLOCK.device}

A Mounted Namespace Is Not Overwritten
    [Documentation]    Wiping and copying are refused. The file system stays intact.
    [Tags]    ct-02
    ${mounted} =    Create Namespace    ${REGION}    mode=fsdax    size=at least 32MiB    name=mounted
    Run On Host    mkfs.ext4    -q    ${mounted.device}
    Run On Host    mount    ${mounted.device}    ${DIRECTORY}/mnt
    Run Keyword And Expect Error    *is in use*mounted at*    Wipe Content    ${mounted}
    Run Keyword And Expect Error    *is in use*mounted at*    Copy Content    ${DAX}    ${mounted}    length=4KiB
    Run On Host    umount    ${DIRECTORY}/mnt
    Run On Host    fsck.ext4    -n    ${mounted.device}

A File That This Run Did Not Make Is Not Overwritten
    [Documentation]    A file belongs to no run. Its checksum does not change.
    [Tags]    ct-02
    ${before} =    Get Output Of Host    sha256sum    ${FILE}
    Run Keyword And Expect Error    *so no run made it*    Wipe Content    ${FILE}
    Run Keyword And Expect Error    *so no run made it*    Copy Content    ${DAX}    ${FILE}    length=4KiB
    Run Keyword And Expect Error    *so no run made it*    Write Pattern    ${FILE}    seed=x    length=4KiB
    ${after} =    Get Output Of Host    sha256sum    ${FILE}
    Should Be Equal    ${after}    ${before}

Transfers Report Their Throughput
    [Documentation]    The throughput is the length divided by the seconds. Every transfer takes more than zero seconds.
    [Tags]    ct-03
    ${written} =    Write Pattern    ${DAX}    seed=fast    length=8MiB
    ${read} =    Pattern Should Be Intact    ${DAX}    seed=fast    length=8MiB
    Throughput Should Match    ${written}    8
    Throughput Should Match    ${read}    8


*** Keywords ***
Create One Namespace Of Each Kind
    [Documentation]    Create a device-DAX node, a block device and a file. If memory cannot be mapped, a second block
    ...    device takes the place of the device-DAX node.
    Choose A Region    at_least=128MiB
    ${namespace} =    Create Namespace    ${REGION}    mode=${CONTENT_MODE}    size=at least 16MiB    name=mapped
    VAR    ${DAX} =    ${namespace}    scope=SUITE
    ${namespace} =    Create Namespace    ${REGION}    mode=raw    size=at least 16MiB    name=block
    VAR    ${BLOCK} =    ${namespace}    scope=SUITE
    ${directory} =    Get Output Of Host    mktemp    -d
    VAR    ${DIRECTORY} =    ${directory}    scope=SUITE
    VAR    ${FILE} =    ${DIRECTORY}/file    scope=SUITE
    Run On Host    mkdir    ${DIRECTORY}/mnt
    Run On Host    truncate    --size\=4M    ${FILE}

Change Bytes Of File
    [Documentation]    Change some bytes of a file on the host with the host's own tools. No byte keeps its value.
    [Arguments]    ${file}    ${offset}    ${count}
    Run Script On Host    change_bytes.sh    ${file}    ${offset}    ${count}

Throughput Should Match
    [Documentation]    Fail unless a transfer has this length, and its throughput times its seconds is that length.
    [Arguments]    ${transfer}    ${mebibytes}
    Should Be Equal As Strings    ${transfer.length}    ${mebibytes}MiB
    Should Be True    $transfer.seconds > 0
    Should Be Equal As Numbers    ${{$transfer.throughput * $transfer.seconds}}    ${mebibytes}    precision=6

Remove What The Test Made
    [Documentation]    Unmount and remove the test's directory, and clean up the host.
    IF    $DIRECTORY
        Run On Host    umount    ${DIRECTORY}/mnt    expected_status=${None}
        Run On Host    rm    --recursive    --one-file-system    ${DIRECTORY}
    END
    VAR    ${DIRECTORY} =    ${EMPTY}    scope=SUITE
    Clean Up Host
