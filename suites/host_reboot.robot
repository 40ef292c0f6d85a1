*** Settings ***
Documentation     A host's namespaces after a reboot of the host.

Resource          ../resources/host.resource

Suite Setup       Take A Host
Suite Teardown    Give The Host Back

Test Tags         hs-04


*** Test Cases ***
Every Namespace Is Found By Its UUID After A Host Reboot
    [Documentation]    Names, modes, sizes and content are the same in the new boot. Device names may change.
    ${entry} =    The Entry Of The Taken Host
    Skip If    not $entry.may_reboot
    ...    ${entry.name} may not be rebooted: say host_may_reboot = yes in its section of the hosts file.
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
    ${entry} =    The Entry Of The Taken Host
    Skip If    $entry.address == 'local'    This machine is opened without SSH: give a host with an address.
    ${boot} =    Get Host Boot Id
    Open Host
    ...    ${entry.address}
    ...    ${entry.user}
    ...    port=${entry.port}
    ...    key_file=${entry.key_file}
    ...    known_hosts=${entry.known_hosts}
    ...    sudo=${entry.sudo}
    ...    alias=changed
    ...    ssh_config=${entry.ssh_config or 'yes'}
    Run Keyword And Expect Error    *host_may_reboot*    Reboot Host
    ${after} =    Get Host Boot Id
    Should Be Equal    ${after}    ${boot}
    [Teardown]    Look At The Host Itself


*** Keywords ***
The Entry Of The Taken Host
    [Documentation]    Return the section of the taken host in the hosts file.
    ${aliases} =    Get Open Hosts
    ${entry} =    Get Host Entry    ${HOSTS}    ${aliases}[0]
    RETURN    ${entry}

Create Namespaces Of Every Mode
    [Documentation]    Create one namespace of each mode, each with a different pattern. Return the namespaces.
    ${region} =    Get Region With Largest Free Extent    at_least=256MiB
    FOR    ${mode}    IN    devdax    fsdax    sector    raw
        ${namespace} =    Create Namespace    ${region}    mode=${mode}    size=at least 64MiB    name=kept-${mode}
        Write Pattern    ${namespace}    seed=${namespace.name}
    END
    ${after} =    Get Region    ${region}
    RETURN    ${{[each for each in $after.namespaces if each.name.startswith('kept-')]}}

Namespace Should Be As Before
    [Documentation]    Find a namespace by its UUID, and compare its name, mode, size and content.
    [Arguments]    ${before}
    ${found} =    Get Namespace    ${before.uuid}
    Should Be Equal    ${found.name}    ${before.name}
    Should Be Equal    ${found.mode}    ${before.mode}
    Should Be Equal    ${found.size}    ${before.size}
    Namespace Views Should Agree    ${found}
    Pattern Should Be Intact    ${found}    seed=${found.name}
