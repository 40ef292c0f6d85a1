*** Settings ***
Documentation     What lies under a namespace's mode: its info block, and the tables that make its sectors atomic.

Resource          ../resources/host.resource

Suite Setup       Take A Host
Suite Teardown    Give The Host Back
Test Setup        Choose A Region
Test Teardown     Clean Up Host


*** Test Cases ***
A Healthy Sector Namespace Passes The Check
    [Documentation]    Fresh and after writes; the check leaves it active, with every byte.
    [Tags]    ns-13
    ${namespace} =    Written Sector Namespace
    Check Namespace    ${namespace}
    Get Namespace State    ${namespace}    ==    active
    Pattern Should Be Intact    ${namespace}    seed=sectors    length=1MiB
    ${found} =    Repair Namespace    ${namespace}    rewrite_log=True
    Should Be Empty    ${found}
    Check Namespace    ${namespace}
    Pattern Should Be Intact    ${namespace}    seed=sectors    length=1MiB

Torn Metadata That Has A Second Copy Is Detected And Repaired
    [Documentation]    Either info block, and a write that was cut off: found, mended, and no sector is lost.
    [Tags]    ns-13
    ${namespace} =    Written Sector Namespace
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

Torn Metadata That Has No Copy Is Detected And Not Called Repaired
    [Documentation]    The map and the log exist once: the check finds it, and a repair that cannot succeed fails.
    [Tags]    ns-13
    FOR    ${part}    IN    map    log
        ${namespace} =    Written Sector Namespace
        Tear Sector Metadata    ${namespace}    ${part}
        Run Keyword And Expect Error    The sector metadata of * is damaged: *    Check Namespace    ${namespace}
        Run Keyword And Expect Error    The sector metadata of * is damaged: *    Repair Namespace    ${namespace}
        Destroy Namespace    ${namespace}
    END

What Is Torn Shows As It Is Until It Is Repaired
    [Documentation]    Without its info block the kernel has it as raw, and says so; repaired, it is what it was.
    [Tags]    ns-13
    ${namespace} =    Written Sector Namespace
    Tear Sector Metadata    ${namespace}    info
    ${raw} =    Enable Namespace    ${namespace}
    Get Namespace Mode    ${raw}    ==    raw
    Namespace Views Should Agree    ${raw}
    Disable Namespace    ${raw}
    Repair Namespace    ${raw}
    ${again} =    Enable Namespace    ${raw}
    Should Be Equal    ${again}    ${namespace}
    Pattern Should Be Intact    ${again}    seed=sectors    length=1MiB

A Namespace Of Another Mode Is Not Checked As One
    [Documentation]    Active or disabled: refused by its mode, and not called damaged.
    [Tags]    ns-13
    ${namespace} =    Create Namespace    ${REGION}    mode=fsdax    size=at least 16MiB    name=no-sectors
    Run Keyword And Expect Error    *has mode fsdax*    Check Namespace    ${namespace}
    Disable Namespace    ${namespace}
    Run Keyword And Expect Error    *is no sector namespace*    Check Namespace    ${namespace}

Info Blocks Say What ndctl And The Labels Say
    [Documentation]    Mode, both UUIDs and sizes, decoded from the bytes, are those of the listing and of the label.
    [Tags]    ns-01    ns-06
    FOR    ${mode}    IN    fsdax    devdax    sector
        ${namespace} =    Create Namespace    ${REGION}    mode=${mode}    size=at least 16MiB    name=of-${mode}
        ${block} =    Read Info Block    ${namespace}
        Should Be True    ${block.intact}
        Should Be Equal As Strings    ${block.mode}    ${mode}
        Should Be Equal    ${block.uuid}    ${namespace.uuid}
        Get Namespace Uuid    ${namespace}    ==    ${block.parent_uuid}
        IF    $mode == 'sector'
            Get Namespace Size    ${namespace}    ==    ${{$block.sectors * $block.sector_size}}
        ELSE
            Get Namespace Size    ${namespace}    ==    ${block.pages * 4096}
            Get Namespace Align    ${namespace}    ==    ${block.align}
        END
        Destroy Namespace    ${namespace}
    END

A Written Info Block Gives A Raw Namespace A Mode
    [Documentation]    The kernel takes it, every view agrees, and its size is that of a namespace made so.
    [Tags]    ns-05
    ${namespace} =    Create Namespace    ${REGION}    mode=raw    size=at least 32MiB    name=from-raw
    Run Keyword And Expect Error    No info block*    Read Info Block    ${namespace}
    ${block} =    Write Info Block    ${namespace}    mode=fsdax    map=mem
    Should Be Equal As Strings    ${block.map}    mem
    ${predicted} =    Get Predicted Usable Size    ${namespace.size}    mode=fsdax    map=mem
    Get Namespace Mode    from-raw    ==    fsdax
    Get Namespace Size    from-raw    ==    ${predicted}
    Namespace Views Should Agree    from-raw

A Label Is Not Contradicted By A Written Info Block
    [Documentation]    The label of a sector namespace binds it, so the kernel would not see the block: refused.
    [Tags]    ns-05    ns-13
    ${namespace} =    Written Sector Namespace
    Run Keyword And Expect Error    *binds it to another mode*    Write Info Block    ${namespace}    mode=devdax
    Get Namespace Mode    ${namespace}    ==    sector
    Check Namespace    ${namespace}
    Pattern Should Be Intact    ${namespace}    seed=sectors    length=1MiB


*** Keywords ***
Choose A Region
    [Documentation]    Picks the region with the largest free extent.
    ${region} =    Get Roomiest Region    at_least=64MiB
    VAR    ${REGION} =    ${region.dev}    scope=SUITE

Written Sector Namespace
    [Documentation]    Makes a small sector namespace that holds a pattern.
    ${namespace} =    Create Namespace    ${REGION}    mode=sector    size=at least 32MiB    name=sectors
    Write Pattern    ${namespace}    seed=sectors    length=1MiB
    RETURN    ${namespace}
