*** Settings ***
Documentation     A host's namespaces after a reboot of the host.

Resource          ../resources/host.resource

Suite Setup       Take A Host
Suite Teardown    Give The Host Back

Test Tags         hs-04


*** Test Cases ***
Every Namespace Is Found By Its UUID After A Host Reboot
    [Documentation]    Names, modes, sizes and content are the same in the new boot. Device names may change.
    Skip Unless The Host May Be Rebooted
    @{before} =    Create Namespaces Of Every Mode
    ${boot} =    Get Host Boot Id
    Reboot Host
    ${after} =    Get Host Boot Id
    Should Not Be Equal    ${after}    ${boot}
    FOR    ${namespace}    IN    @{before}
        Namespace Should Be As Before    ${namespace}
    END

A Host Is Not Rebooted Without Permission
    [Documentation]    The host is opened without the permission in a hosts file. It keeps its boot id.
    Skip Unless The Host Is Reached Over SSH
    ${boot} =    Get Host Boot Id
    Open The Host Again    changed
    Run Keyword And Expect Error    *host_may_reboot*    Reboot Host
    ${after} =    Get Host Boot Id
    Should Be Equal    ${after}    ${boot}
    [Teardown]    Look At The Host Itself


*** Keywords ***
Create Namespaces Of Every Mode
    [Documentation]    Create one namespace of each mode, each with a different pattern. Return the namespaces.
    ${region} =    Get Region With Room    at_least=256MiB
    VAR    @{names} =    @{EMPTY}
    VAR    @{namespaces} =    @{EMPTY}
    FOR    ${mode}    IN    devdax    fsdax    sector    raw
        ${namespace} =    Create Namespace    ${region}    mode=${mode}    size=at least 32MiB    name=kept-${mode}
        Write Pattern    ${namespace}    seed=${namespace.name}
        VAR    @{names} =    @{names}    ${namespace.name}
    END
    # The records are read again, because a namespace may get another device name when its neighbour is created.
    FOR    ${name}    IN    @{names}
        ${namespace} =    Get Namespace    ${name}
        VAR    @{namespaces} =    @{namespaces}    ${namespace}
    END
    RETURN    ${namespaces}

Namespace Should Be As Before
    [Documentation]    Find a namespace by its UUID, and compare its name, mode, size and content.
    [Arguments]    ${before}
    ${found} =    Get Namespace    ${before.uuid}
    Fields Should Be Equal    ${found}    ${before}    name    mode    size
    Namespace Views Should Agree    ${found}
    Pattern Should Be Intact    ${found}    seed=${found.name}
