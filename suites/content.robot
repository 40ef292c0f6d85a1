*** Settings ***
Documentation     Write, compare, copy and wipe content on the host itself, on every kind of device.

Resource          ../resources/host.resource

Suite Setup       Take A Host
Suite Teardown    Give The Host Back
Test Setup        Create One Namespace Of Each Kind
Test Teardown     Remove What The Test Made

Test Tags         content


*** Variables ***
${DIRECTORY}    ${EMPTY}


*** Test Cases ***
Two Devices Of Different Kinds Hold The Same Bytes After A Copy
    [Documentation]    Bytes are copied from device DAX to a block device, and from there to a file. The host's own cmp
    ...    finds them equal.
    Write Pattern    ${DAX}    seed=original    length=4MiB
    Copy Content    ${DAX}    ${BLOCK}    length=4MiB
    Copy Content    ${BLOCK}    ${FILE}    length=4MiB    foreign=True
    Content Should Be Equal    ${DAX}    ${BLOCK}    length=4MiB
    Content Should Be Equal    ${FILE}    ${DAX}    length=4MiB
    Pattern Should Be Intact    ${FILE}    seed=original    length=4MiB
    Run On Host    cmp    --bytes\=4194304    ${FILE}    ${BLOCK.device}

A Failed Comparison Reports The First Different Byte And The Count
    [Documentation]    Another tool changes three bytes of one copy.
    Write Pattern    ${DAX}    seed=twin    length=4MiB
    Write Pattern    ${FILE}    seed=twin    length=4MiB    foreign=True
    ${before} =    Run On Host    od    -An    -tx1    -j 1048577    -N 3    ${FILE}
    VAR    @{bytes} =    @{before.text.split()}
    VAR    ${changed} =    ${{''.join('\\%03o' % (int(byte, 16) ^ 0x55) for byte in $bytes)}}
    Run On Host
    ...    sh
    ...    -c
    ...    printf "$1" | dd of\="$2" bs\=1 seek\=1048577 conv\=notrunc
    ...    sh
    ...    ${changed}
    ...    ${FILE}
    Run Keyword And Expect Error    *: 3 of 4194304 bytes from 0B differ, the first at byte 1048577.
    ...    Content Should Be Equal    ${DAX}    ${FILE}    length=4MiB
    Run Keyword And Expect Error    *: 3 of 4194304 bytes from 0B differ, the first at byte 1048577.
    ...    Pattern Should Be Intact    ${FILE}    seed=twin    length=4MiB
    Content Should Be Equal    ${DAX}    ${FILE}    length=1MiB

A Wipe Writes Zeros To Its Range And Changes Nothing Else
    [Documentation]    First a range is wiped, then the whole device to its last byte. The host's own tr finds only
    ...    zeros.
    FOR    ${target}    IN    ${DAX}    ${BLOCK}
        Write Pattern    ${target}    seed=secret
        Wipe Content    ${target}    offset=1MiB    length=8KiB
        Content Should Be Zero    ${target}    offset=1MiB    length=8KiB
        Pattern Should Be Intact    ${target}    seed=secret    length=1MiB
        Pattern Should Be Intact    ${target}    seed=secret    offset=${1024 * 1024 + 8192}
        Run Keyword And Expect Error    *does not contain zeros*the first at byte *
        ...    Content Should Be Zero    ${target}
        Wipe Content    ${target}
        Content Should Be Zero    ${target}
    END
    ${left} =    Run On Host    sh    -c    tr -d "\\000" <"$1" | wc -c    sh    ${BLOCK.device}
    Should Be Equal As Integers    ${left.text}    0

A Mounted Namespace Is Not Overwritten
    [Documentation]    Wiping and copying are refused. The file system stays intact.
    ${mounted} =    Create Namespace    ${REGION}    mode=fsdax    size=at least 32MiB    name=mounted
    Run On Host    mkfs.ext4    -q    ${mounted.device}
    Run On Host    mount    ${mounted.device}    ${DIRECTORY}/mnt
    Run Keyword And Expect Error    *is in use*mounted at*    Wipe Content    ${mounted}
    Run Keyword And Expect Error    *is in use*mounted at*    Copy Content    ${DAX}    ${mounted}    length=4KiB
    Run On Host    umount    ${DIRECTORY}/mnt
    Run On Host    fsck.ext4    -n    ${mounted.device}

A File That This Run Did Not Make Is Not Overwritten
    [Documentation]    A file belongs to no run. Its checksum does not change.
    ${before} =    Run On Host    sha256sum    ${FILE}
    Run Keyword And Expect Error    *no run's own*    Wipe Content    ${FILE}
    Run Keyword And Expect Error    *no run's own*    Copy Content    ${DAX}    ${FILE}    length=4KiB
    Run Keyword And Expect Error    *no run's own*    Write Pattern    ${FILE}    seed=x    length=4KiB
    ${after} =    Run On Host    sha256sum    ${FILE}
    Should Be Equal    ${after.text}    ${before.text}

Transfers Report Their Throughput
    [Documentation]    The throughput is the length divided by the seconds. Every transfer takes more than zero seconds.
    ${written} =    Write Pattern    ${DAX}    seed=fast    length=8MiB
    ${read} =    Pattern Should Be Intact    ${DAX}    seed=fast    length=8MiB
    FOR    ${transfer}    IN    ${written}    ${read}
        Should Be Equal As Strings    ${transfer.length}    8MiB
        Should Be True    $transfer.seconds > 0
        Should Be Equal As Numbers    ${{$transfer.throughput * $transfer.seconds}}    8    precision=6
    END


*** Keywords ***
Create One Namespace Of Each Kind
    [Documentation]    Create a device-DAX node, a block device and a file.
    ${region} =    Get Region With Largest Free Extent    at_least=128MiB
    VAR    ${REGION} =    ${region.dev}    scope=SUITE
    ${namespace} =    Create Namespace    ${REGION}    mode=devdax    size=at least 16MiB    name=mapped
    VAR    ${DAX} =    ${namespace}    scope=SUITE
    ${namespace} =    Create Namespace    ${REGION}    mode=raw    size=at least 16MiB    name=block
    VAR    ${BLOCK} =    ${namespace}    scope=SUITE
    ${made} =    Run On Host    sh    -c    d\=$(mktemp -d) && mkdir "$d/mnt" && truncate -s 4M "$d/file" && echo "$d"
    VAR    ${DIRECTORY} =    ${made.text.strip()}    scope=SUITE
    VAR    ${FILE} =    ${DIRECTORY}/file    scope=SUITE

Remove What The Test Made
    [Documentation]    Unmount and remove the test's directory, and clean up the host.
    IF    $DIRECTORY
        Run On Host    sh    -c    mountpoint -q "$1/mnt" && umount "$1/mnt"; rm -r "$1"    sh    ${DIRECTORY}
    END
    VAR    ${DIRECTORY} =    ${EMPTY}    scope=SUITE
    Clean Up Host
