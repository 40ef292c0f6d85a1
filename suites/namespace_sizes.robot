*** Settings ***
Documentation     What a region gives: usable sizes, alignments, the room that is left and its pieces.

Resource          ../resources/host.resource

Suite Setup       Take A Host
Suite Teardown    Give The Host Back
Test Setup        Choose A Region
Test Teardown     Clean Up Host


*** Test Cases ***
The Page Map Takes What Was Predicted
    [Documentation]    With the map in memory or in the device, ndctl, kernel and node have the predicted bytes.
    [Tags]    ns-06
    FOR    ${mode}    IN    fsdax    devdax
        ${with_dev} =    Usable Size With    ${mode}    dev
        ${with_mem} =    Usable Size With    ${mode}    mem
        Should Be True    $with_dev < $with_mem
    END

Sizes Are Multiples Of Their Alignment
    [Documentation]    The usable size is a whole multiple of each alignment that fits anywhere, and sysfs has the same.
    [Tags]    ns-07
    FOR    ${mode}    IN    fsdax    devdax
        FOR    ${align}    IN    4KiB    2MiB
            ${namespace} =    Create Namespace    ${REGION}    mode=${mode}    size=${SIZE}    align=${align}
            Get Namespace Align    ${namespace}    ==    ${align}
            Get Namespace Size    ${namespace}    validate    value % ${{int($namespace.align)}} == 0
            ${predicted} =    Get Predicted Usable Size    ${SIZE}    mode=${mode}    align=${align}
            Get Namespace Size    ${namespace}    ==    ${predicted}
            Namespace Views Should Agree    ${namespace}
            Destroy Namespace    ${namespace}
        END
    END

An Alignment Of A Gibibyte Is Made Or Refused Beforehand
    [Documentation]    Up to a GiB at either end is lost: what leaves nothing usable is refused, and nothing is made.
    [Tags]    ns-07
    ${largest} =    Get Largest Free Extent    ${REGION}
    Run Keyword And Expect Error    size '${SIZE}' cannot be used: expected a multiple of ${GIBIBYTES}*
    ...    Create Namespace    ${REGION}    mode=devdax    size=${SIZE}    align=1GiB    name=gibibyte
    VAR    ${whole} =    ${{3 * $GIBIBYTES}}
    IF    $largest >= $whole
        ${namespace} =    Create Namespace    ${REGION}    mode=devdax    size=${whole}    align=1GiB    name=gibibyte
        Get Namespace Align    ${namespace}    ==    1GiB
        Get Namespace Size    ${namespace}    validate    value % 1024 ** 3 == 0
        Namespace Views Should Agree    ${namespace}
    ELSE
        Run Keyword And Expect Error    *${GIBIBYTES}*
        ...    Create Namespace    ${REGION}    mode=devdax    size=${GIBIBYTES}    align=1GiB    name=gibibyte
        Namespace Should Not Exist    gibibyte
        Get Largest Free Extent    ${REGION}    ==    ${largest}
    END

A Full Region Is Refused As Full
    [Documentation]    Not as an absent device: the message says what is free, and no attempt leaves anything behind.
    [Tags]    ns-04
    ${largest} =    Get Largest Free Extent    ${REGION}
    Run Keyword And Expect Error    There is no room for *the largest that fits has *
    ...    Create Namespace    ${REGION}    mode=raw    size=at least ${largest + 1024 ** 3}    name=too-large
    Create Namespace    ${REGION}    mode=raw    size=all    name=filler
    Get Largest Free Extent    ${REGION}    <    ${largest}
    Fill The Rest
    Run Keyword And Expect Error    There is no room for *nothing of it is free.
    ...    Create Namespace    ${REGION}    mode=devdax    size=at least 16MiB    name=too-late
    Run Keyword And Expect Error    There is no room for *nothing of it is free.
    ...    Create Namespace    ${REGION}    mode=devdax    name=too-late
    Namespace Should Not Exist    too-large
    Namespace Should Not Exist    too-late

The Room Of A Namespace That Went Is Used Again
    [Documentation]    The gap between two others is the largest extent then, and a new namespace takes all of it.
    [Tags]    ns-10
    @{made} =    Fill The Region With    1    4    1
    ${place} =    Offset Of    ${made}[1]
    Destroy Namespace    ${made}[1]
    Get Largest Free Extent    ${REGION}    ==    ${UNITS}[4]
    Get Region Fragmentation    ${REGION}    ==    0
    Region Room Views Should Agree    ${REGION}
    ${again} =    Create Namespace    ${REGION}    mode=devdax    name=again
    ${offset} =    Offset Of    ${again}
    Should Be Equal    ${offset}    ${place}
    Get Largest Free Extent    ${REGION}    ==    0

Room That Lies In Pieces Is Reported So
    [Documentation]    Two gaps of one size: half of what is free is out of reach, and a request for more names both.
    [Tags]    ns-10
    @{made} =    Fill The Region With    2    1    2
    Destroy Namespace    ${made}[0]
    Destroy Namespace    ${made}[2]
    Get Region Available Size    ${REGION}    ==    ${UNITS}[4]
    Get Largest Free Extent    ${REGION}    ==    ${UNITS}[2]
    Get Region Fragmentation    ${REGION}    ==    50
    Region Room Views Should Agree    ${REGION}
    Namespace Should Fit    ${REGION}    mode=devdax    size=${UNITS}[2]
    Run Keyword And Expect Error    *no room*${UNITS}[3]*${UNITS}[2]*${UNITS}[4] in all*${UNITS}[2] at*${UNITS}[2] at *
    ...    Create Namespace    ${REGION}    mode=devdax    size=${UNITS}[3]    name=too-large
    Namespace Should Not Exist    too-large


*** Keywords ***
Choose A Region
    [Documentation]    Picks the region with the largest free extent, and sizes that it allows.
    ${chosen} =    Get Roomiest Region    at_least=256MiB
    ${size} =    Get Smallest Namespace Size    ${chosen}    at_least=32MiB
    ${gibibytes} =    Get Region Size Step    ${chosen}    align=1GiB
    ${unit} =    Get Smallest Namespace Size    ${chosen}
    VAR    ${REGION} =    ${chosen.dev}    scope=SUITE
    VAR    ${SIZE} =    ${size}    scope=SUITE
    VAR    ${GIBIBYTES} =    ${gibibytes}    scope=SUITE
    VAR    @{UNITS} =    @{{list(map(type($unit), range(0, 5 * $unit, $unit)))}}    scope=SUITE

Usable Size With
    [Documentation]    Makes a namespace with a page map there, proves its predicted size by every view, and returns it.
    [Arguments]    ${mode}    ${map}
    ${size} =    Get Smallest Namespace Size    ${REGION}    at_least=128MiB
    ${namespace} =    Create Namespace    ${REGION}    mode=${mode}    map=${map}    size=${size}
    ${predicted} =    Get Predicted Usable Size    ${size}    mode=${mode}    map=${map}
    Get Namespace Size    ${namespace}    ==    ${predicted}
    Namespace Views Should Agree    ${namespace}
    Destroy Namespace    ${namespace}
    RETURN    ${namespace.size}

Fill The Region With
    [Documentation]    Makes raw namespaces of so many units one behind the other, takes all the rest, and returns them.
    [Arguments]    @{counts}
    VAR    @{made} =    @{EMPTY}
    FOR    ${count}    IN    @{counts}
        ${namespace} =    Create Namespace    ${REGION}    mode=raw    size=${UNITS}[${count}]
        Collections.Append To List    ${made}    ${namespace}
    END
    Fill The Rest
    RETURN    @{made}

Fill The Rest
    [Documentation]    Takes every free extent, until nothing of the region is free.
    WHILE    True    limit=64
        ${free} =    Get Largest Free Extent    ${REGION}
        IF    $free == 0    BREAK
        Create Namespace    ${REGION}    mode=raw    name=filler
    END

Offset Of
    [Documentation]    Returns where in the region a namespace lies, as sysfs has it.
    [Arguments]    ${namespace}
    ${extents} =    Get Region Extents    ${REGION}
    VAR    &{offsets} =    &{{{extent.holder: extent.offset for extent in $extents}}}
    RETURN    ${offsets}[${namespace.dev}]
