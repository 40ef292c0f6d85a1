*** Settings ***
Documentation     The metadata of a namespace's mode: its info block, and the tables that make its sectors atomic.

Resource          ../resources/host.resource

Suite Setup       Take A Host
Suite Teardown    Give The Host Back
Test Setup        Choose A Region
Test Teardown     Clean Up Host


*** Test Cases ***
A Healthy Sector Namespace Passes The Check
    [Documentation]    The check passes on a fresh namespace and after writes. The namespace stays active with every
    ...    byte.
    [Tags]    ns-13
    ${namespace} =    Create Sector Namespace With A Pattern
    Check Namespace    ${namespace}
    Get Namespace Property    ${namespace}    state    ==    active
    Pattern Should Be Intact    ${namespace}    seed=sectors    length=1MiB
    ${found} =    Repair Namespace    ${namespace}    rewrite_log=True
    Should Be Empty    ${found}
    Check Namespace    ${namespace}
    Pattern Should Be Intact    ${namespace}    seed=sectors    length=1MiB

Torn Metadata With A Second Copy Is Detected And Repaired
    [Documentation]    Each info block and an interrupted write are detected and fixed. No sector is lost.
    [Tags]    ns-13
    ${namespace} =    Create Sector Namespace With A Pattern
    FOR    ${part}    IN    info    backup    write
        Tear Sector Metadata    ${namespace}    ${part}
        Run Keyword And Expect Error    The sector metadata of * is damaged: *    Check Namespace    ${namespace}
        ${found} =    Repair Namespace    ${namespace}
        Should Not Be Empty    ${found}
        Check Namespace    ${namespace}
        ${again} =    Enable Namespace    ${namespace}
        Should Be Equal    ${again}    ${namespace}
        Pattern Should Be Intact    ${again}    seed=sectors    length=1MiB
    END

Torn Metadata Without A Copy Is Detected And Not Reported As Repaired
    [Documentation]    The map and the log exist only once. The check finds the damage, and a repair that cannot succeed
    ...    fails.
    [Tags]    ns-13
    FOR    ${part}    IN    map    log
        ${namespace} =    Create Sector Namespace With A Pattern
        Tear Sector Metadata    ${namespace}    ${part}
        Run Keyword And Expect Error    The sector metadata of * is damaged: *    Check Namespace    ${namespace}
        Run Keyword And Expect Error    The sector metadata of * is damaged: *    Repair Namespace    ${namespace}
        Destroy Namespace    ${namespace}
    END

A Torn Namespace Is Raw Until It Is Repaired
    [Documentation]    Without the info block the kernel reports the namespace as raw. The repair restores its mode.
    [Tags]    ns-13
    ${namespace} =    Create Sector Namespace With A Pattern
    Tear Sector Metadata    ${namespace}    info
    ${raw} =    Enable Namespace    ${namespace}
    Get Namespace Property    ${raw}    mode    ==    raw
    Namespace Views Should Agree    ${raw}
    Disable Namespace    ${raw}
    Repair Namespace    ${raw}
    ${again} =    Enable Namespace    ${raw}
    Should Be Equal    ${again}    ${namespace}
    Pattern Should Be Intact    ${again}    seed=sectors    length=1MiB

A Namespace Of A Different Mode Is Not Checked
    [Documentation]    An active or disabled namespace is refused because of its mode. It is not reported as damaged.
    [Tags]    ns-13
    ${namespace} =    Create Namespace    ${REGION}    mode=fsdax    size=at least 16MiB    name=no-sectors
    Run Keyword And Expect Error    *has mode fsdax*    Check Namespace    ${namespace}
    Disable Namespace    ${namespace}
    Run Keyword And Expect Error    *is not a sector namespace*    Check Namespace    ${namespace}

Info Blocks Match ndctl And The Labels
    [Documentation]    The mode, both UUIDs and the sizes, decoded from the bytes, match the listing and the label.
    [Tags]    ns-01    ns-06
    [Template]    Info Block Should Match Listing And Label
    fsdax
    devdax
    sector

A Written Info Block Gives A Raw Namespace A Mode
    [Documentation]    The kernel accepts the block, and every view agrees. The size is the predicted size of such a
    ...    namespace.
    [Tags]    ns-05
    ${namespace} =    Create Namespace    ${REGION}    mode=raw    size=at least 32MiB    name=from-raw
    Run Keyword And Expect Error    No info block*    Read Info Block    ${namespace}
    ${block} =    Write Info Block    ${namespace}    mode=fsdax    map=mem
    Should Be Equal As Strings    ${block.map}    mem
    ${predicted} =    Get Predicted Usable Size    ${namespace.size}    mode=fsdax    map=mem
    Get Namespace Property    from-raw    mode    ==    fsdax
    Get Namespace Property    from-raw    size    ==    ${predicted}
    Namespace Views Should Agree    from-raw

An Info Block That Contradicts The Label Is Refused
    [Documentation]    The label of a sector namespace sets its mode, so the kernel would ignore the block.
    [Tags]    ns-05    ns-13
    ${namespace} =    Create Sector Namespace With A Pattern
    Run Keyword And Expect Error    *requires another mode*    Write Info Block    ${namespace}    mode=devdax
    Get Namespace Property    ${namespace}    mode    ==    sector
    Check Namespace    ${namespace}
    Pattern Should Be Intact    ${namespace}    seed=sectors    length=1MiB


*** Keywords ***
Create Sector Namespace With A Pattern
    [Documentation]    Create a small sector namespace with a pattern.
    ${namespace} =    Create Namespace    ${REGION}    mode=sector    size=at least 32MiB    name=sectors
    Write Pattern    ${namespace}    seed=sectors    length=1MiB
    RETURN    ${namespace}

Info Block Should Match Listing And Label
    [Documentation]    Create a namespace of a mode, and compare its decoded info block with ndctl's listing and the
    ...    label.
    [Arguments]    ${mode}
    ${namespace} =    Create Namespace    ${REGION}    mode=${mode}    size=at least 16MiB    name=of-${mode}
    ${block} =    Read Info Block    ${namespace}
    Should Be True    ${block.intact}
    Should Be Equal As Strings    ${block.mode}    ${mode}
    Should Be Equal    ${block.uuid}    ${namespace.uuid}
    Get Namespace Property    ${namespace}    uuid    ==    ${block.parent_uuid}
    Size Should Match Info Block    ${namespace}    ${block}
    Destroy Namespace    ${namespace}

Size Should Match Info Block
    [Documentation]    Compare ndctl's listing of a namespace with the number of sectors, or of pages and their
    ...    alignment, in its info block.
    [Arguments]    ${namespace}    ${block}
    IF    $namespace.mode == 'sector'
        ${size} =    Multiply Size    ${block.sector_size}    ${block.sectors}
    ELSE
        ${size} =    Multiply Size    4KiB    ${block.pages}
        Get Namespace Property    ${namespace}    align    ==    ${block.align}
    END
    Get Namespace Property    ${namespace}    size    ==    ${size}
