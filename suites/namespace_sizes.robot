*** Settings ***
Documentation     The space of a region: usable sizes, alignments, free space and its extents.

Resource          ../resources/host.resource

Suite Setup       Take A Host
Suite Teardown    Give The Host Back
Test Setup        Choose A Region And Sizes
Test Teardown     Clean Up Host


*** Test Cases ***
The Page Map Uses The Predicted Size
    [Documentation]    With the map in memory or in the device, ndctl, the kernel and the node have the predicted bytes.
    [Tags]    ns-06
    FOR    ${mode}    IN    fsdax    devdax
        ${with_dev} =    Create With Page Map In    dev    mode=${mode}
        ${with_mem} =    Create With Page Map In    mem    mode=${mode}
        First Size Should Be Smaller    ${with_dev}    ${with_mem}
    END

Sizes Are Multiples Of Their Alignment
    [Documentation]    The usable size is a multiple of each alignment that fits in any region. sysfs has the same
    ...    alignment.
    [Tags]    ns-07
    [Template]    Size Should Be A Multiple Of Alignment
    fsdax    4KiB
    fsdax    2MiB
    devdax    4KiB
    devdax    2MiB

An Alignment Of A Gibibyte Is Created Or Refused
    [Documentation]    Up to a GiB at each end is lost. A size that leaves nothing usable is refused, and nothing is
    ...    created.
    [Tags]    ns-07
    ${largest} =    Get Region Property    ${REGION}    largest free extent
    Run Keyword And Expect Error    size '${SIZE}' cannot be used: expected a multiple of ${GIBIBYTES}*
    ...    Create Namespace    ${REGION}    mode=devdax    size=${SIZE}    align=1GiB    name=gibibyte
    ${whole} =    Multiply Size    ${GIBIBYTES}    3
    IF    $largest >= $whole
        Gibibyte Alignment Should Be Created    ${whole}
    ELSE
        Gibibyte Alignment Should Be Refused
        Get Region Property    ${REGION}    largest free extent    ==    ${largest}
    END

A Full Region Is Reported As Full
    [Documentation]    The error does not name an absent device. It says how much is free, and no attempt leaves
    ...    anything.
    [Tags]    ns-04
    ${largest} =    Get Region Property    ${REGION}    largest free extent
    ${more} =    Add Sizes    ${largest}    1GiB
    Run Keyword And Expect Error    There is no room for *the largest that fits has *
    ...    Create Namespace    ${REGION}    mode=raw    size=at least ${more}    name=too-large
    Create Namespace    ${REGION}    mode=raw    size=all    name=filler
    Get Region Property    ${REGION}    largest free extent    <    ${largest}
    Fill The Rest
    Run Keyword And Expect Error    There is no room for *nothing of it is free.
    ...    Create Namespace    ${REGION}    mode=devdax    size=at least 16MiB    name=too-late
    Run Keyword And Expect Error    There is no room for *nothing of it is free.
    ...    Create Namespace    ${REGION}    mode=devdax    name=too-late
    Namespace Should Not Exist    too-large
    Namespace Should Not Exist    too-late

The Space Of A Destroyed Namespace Is Used Again
    [Documentation]    The gap between two namespaces becomes the largest extent, and a new namespace fills it.
    [Tags]    ns-10
    @{made} =    Fill The Region With    1    4    1
    ${place} =    Get Offset In Region    ${made}[1]
    Destroy Namespace    ${made}[1]
    Get Region Property    ${REGION}    largest free extent    ==    ${UNITS}[4]
    Get Region Property    ${REGION}    fragmentation    ==    0
    Region Room Views Should Agree    ${REGION}
    ${again} =    Create Namespace    ${REGION}    mode=devdax    name=again
    ${offset} =    Get Offset In Region    ${again}
    Should Be Equal    ${offset}    ${place}
    Get Region Property    ${REGION}    largest free extent    ==    0

Fragmented Free Space Is Reported
    [Documentation]    With two gaps of equal size, half of the free space is unusable for one namespace. The error for
    ...    a larger request names both gaps.
    [Tags]    ns-10
    @{made} =    Fill The Region With    2    1    2
    Destroy Namespace    ${made}[0]
    Destroy Namespace    ${made}[2]
    Get Region Property    ${REGION}    available size    ==    ${UNITS}[4]
    Get Region Property    ${REGION}    largest free extent    ==    ${UNITS}[2]
    Get Region Property    ${REGION}    fragmentation    ==    50
    Region Room Views Should Agree    ${REGION}
    Namespace Should Fit    ${REGION}    mode=devdax    size=${UNITS}[2]
    Run Keyword And Expect Error
    ...    *no room*${UNITS}[3]*${UNITS}[2]*${UNITS}[4] in total*${UNITS}[2] at*${UNITS}[2] at *
    ...    Create Namespace
    ...    ${REGION}
    ...    mode=devdax
    ...    size=${UNITS}[3]
    ...    name=too-large
    Namespace Should Not Exist    too-large


*** Keywords ***
Choose A Region And Sizes
    [Documentation]    Select the region with the largest free extent, and sizes that it allows.
    ${chosen} =    Choose A Region    at_least=256MiB
    ${size} =    Get Smallest Namespace Size    ${chosen}    at_least=32MiB
    ${gibibytes} =    Get Region Size Step    ${chosen}    align=1GiB
    ${unit} =    Get Smallest Namespace Size    ${chosen}
    VAR    ${SIZE} =    ${size}    scope=SUITE
    VAR    ${GIBIBYTES} =    ${gibibytes}    scope=SUITE
    VAR    @{units} =    @{EMPTY}
    FOR    ${count}    IN RANGE    5
        ${units_of_count} =    Multiply Size    ${unit}    ${count}
        VAR    @{units} =    @{units}    ${units_of_count}
    END
    VAR    @{UNITS} =    @{units}    scope=SUITE

Create With Page Map In
    [Documentation]    Create a namespace with the page map there, check its predicted size in every view, and return
    ...    the size.
    [Arguments]    ${map}    ${mode}
    ${size} =    Get Smallest Namespace Size    ${REGION}    at_least=128MiB
    ${namespace} =    Create Namespace    ${REGION}    mode=${mode}    map=${map}    size=${size}
    ${predicted} =    Get Predicted Usable Size    ${size}    mode=${mode}    map=${map}    region=${REGION}
    Get Namespace Property    ${namespace}    size    ==    ${predicted}
    Namespace Views Should Agree    ${namespace}
    Destroy Namespace    ${namespace}
    RETURN    ${namespace.size}

First Size Should Be Smaller
    [Documentation]    Fail unless the first size is smaller than the second size.
    [Arguments]    ${first}    ${second}
    Should Be True    $first < $second    ${first} is not smaller than ${second}.

Size Should Be A Multiple Of Alignment
    [Documentation]    Create a namespace with an alignment, and check its size and alignment in every view.
    [Arguments]    ${mode}    ${align}
    ${namespace} =    Create Namespace    ${REGION}    mode=${mode}    size=${SIZE}    align=${align}
    Get Namespace Property    ${namespace}    align    ==    ${align}
    Get Namespace Property    ${namespace}    size    validate    value % ${{int($namespace.align)}} == 0
    ${predicted} =    Get Predicted Usable Size    ${SIZE}    mode=${mode}    align=${align}
    Get Namespace Property    ${namespace}    size    ==    ${predicted}
    Namespace Views Should Agree    ${namespace}
    Destroy Namespace    ${namespace}

Gibibyte Alignment Should Be Created
    [Documentation]    Create a namespace with an alignment of 1GiB, and check its size and alignment in every view.
    [Arguments]    ${size}
    ${namespace} =    Create Namespace    ${REGION}    mode=devdax    size=${size}    align=1GiB    name=gibibyte
    Get Namespace Property    ${namespace}    align    ==    1GiB
    Get Namespace Property    ${namespace}    size    validate    value % 1024 ** 3 == 0
    Namespace Views Should Agree    ${namespace}

Gibibyte Alignment Should Be Refused
    [Documentation]    Fail unless a size that leaves nothing usable is refused, and nothing is created.
    Run Keyword And Expect Error    *${GIBIBYTES}*
    ...    Create Namespace    ${REGION}    mode=devdax    size=${GIBIBYTES}    align=1GiB    name=gibibyte
    Namespace Should Not Exist    gibibyte

Fill The Region With
    [Documentation]    Create raw namespaces of these numbers of units one after another. Fill the rest of the region,
    ...    and return the namespaces.
    [Arguments]    @{counts}
    VAR    @{made} =    @{EMPTY}
    FOR    ${count}    IN    @{counts}
        ${namespace} =    Create Namespace    ${REGION}    mode=raw    size=${UNITS}[${count}]
        Collections.Append To List    ${made}    ${namespace}
    END
    Fill The Rest
    RETURN    @{made}

Fill The Rest
    [Documentation]    Fill every free extent, until nothing of the region is free.
    WHILE    True    limit=64
        ${free} =    Get Region Property    ${REGION}    largest free extent
        IF    $free == 0    BREAK
        Create Namespace    ${REGION}    mode=raw    name=filler
    END

Get Offset In Region
    [Documentation]    Return the offset of a namespace in the region, from sysfs.
    [Arguments]    ${namespace}
    ${extents} =    Get Region Extents    ${REGION}
    ${extent} =    Get Record With    ${extents}    holder=${namespace.dev}
    RETURN    ${extent.offset}
