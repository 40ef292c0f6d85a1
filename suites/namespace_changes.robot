*** Settings ***
Documentation     Changes of a namespace's mode, name and state. Content and labels confirm which parts change and which
...               stay.

Resource          ../resources/host.resource

Suite Setup       Take A Host
Suite Teardown    Give The Host Back
Test Setup        Choose A Region
Test Teardown     Clean Up Host


*** Test Cases ***
A Namespace Changes Its Mode In Place And Keeps Its Name
    [Documentation]    Between fsdax and devdax every byte stays. Mode sector loses only the bytes that its tables
    ...    overwrite.
    [Tags]    ns-05
    [Setup]    Choose A Region That Can Be Mapped
    ${namespace} =    Create Namespace    ${REGION}    mode=devdax    size=at least 32MiB    name=kept
    ${before} =    Get Region Extents    ${REGION}
    Write Pattern    ${namespace}    seed=before
    FOR    ${mode}    IN    fsdax    devdax
        ${namespace} =    Change Mode And Keep Name    ${namespace}    ${mode}
        Pattern Should Be Intact    ${namespace}    seed=before
    END
    ${namespace}    ${kept} =    Change To Sector And Back    ${namespace}
    Pattern Should Be Intact    ${namespace}    seed=before    length=${kept}
    Run Keyword And Expect Error    * does not contain *
    ...    Pattern Should Be Intact    ${namespace}    seed=before    offset=${kept}    length=4KiB
    ${after} =    Get Region Extents    ${REGION}
    Should Be Equal    ${after}    ${before}

A Disabled Namespace Keeps Identity And Content
    [Documentation]    For each mode: disabling removes the device node, and ndctl lists the namespace as disabled and
    ...    raw. Enabling restores all.
    [Tags]    ns-08
    FOR    ${mode}    IN    @{CONTENT_MODES}
        ${namespace} =    Create Namespace    ${REGION}    mode=${mode}    size=at least 16MiB    name=off-${mode}
        Write Pattern    ${namespace}    seed=${mode}    length=1MiB
        Disable And Enable    ${namespace}
        Pattern Should Be Intact    ${namespace}    seed=${mode}    length=1MiB
        Destroy Namespace    ${namespace}
    END

A Renamed Namespace Keeps Identity And Content
    [Documentation]    The label on the DIMM has the new name. Nothing else of the namespace changes.
    [Tags]    ns-02    ns-11
    ${namespace} =    Create Namespace    ${REGION}    mode=${CONTENT_MODE}    size=at least 16MiB    name=old
    Write Pattern    ${namespace}    seed=renamed
    ${uuid} =    Get Namespace Property    ${namespace}    uuid
    ${renamed} =    Rename Namespace    ${namespace}    new
    Names In The Labels Should Be    ${uuid}    new
    Namespace Should Not Exist    old
    Get Namespace Property    new    uuid    ==    ${uuid}
    Should Be Equal    ${renamed.uuid}    ${namespace.uuid}
    Namespace Views Should Agree    new
    Pattern Should Be Intact    new    seed=renamed

A Namespace In Use Is Not Renamed
    [Documentation]    The namespace is mounted. The error names the mount point, and the name stays.
    [Tags]    ns-11
    ${namespace} =    Create Namespace    ${REGION}    mode=fsdax    size=at least 16MiB    name=used
    Run On Host    mkfs.ext4    -q    ${namespace.device}
    ${directory} =    Get Output Of Host    mktemp    -d
    Run On Host    mount    ${namespace.device}    ${directory}
    TRY
        Run Keyword And Expect Error    *mounted at ${directory}*    Rename Namespace    used    other
        Get Namespace Property    used    state    ==    active
    FINALLY
        Run On Host    umount    ${directory}
        Run On Host    rmdir    ${directory}
    END

A Name Of Two Namespaces Is Reported And Not Resolved
    [Documentation]    Every keyword refuses the name with both UUIDs. Nothing is destroyed, and a UUID still identifies
    ...    one namespace.
    [Tags]    ns-11
    ${first} =    Create Namespace    ${REGION}    mode=devdax    size=at least 16MiB    name=twice
    ${second} =    Create Namespace    ${REGION}    mode=raw    size=at least 16MiB    name=twice
    ${one} =    Get Namespace Property    ${first}    uuid
    ${two} =    Get Namespace Property    ${second}    uuid
    FOR    ${step}    IN    Get Namespace    Destroy Namespace    Disable Namespace    Namespace Should Exist
        Run Keyword And Expect Error    *'twice'*${one}*${two}*    ${step}    twice
    END
    Run Keyword And Expect Error    *'twice'*${one}*${two}*    Namespace Names Should Be Unique
    Get Namespace Property    ${first}    state    ==    active
    Rename Namespace    ${two}    once
    Get Namespace Property    twice    uuid    ==    ${one}
    Get Namespace Property    once    uuid    ==    ${two}


*** Keywords ***
Choose A Region That Can Be Mapped
    [Documentation]    Select a region. Skip if its memory cannot be mapped.
    Skip Unless Memory Can Be Mapped
    Choose A Region

Change Mode And Keep Name
    [Documentation]    Change the mode of a namespace, and check mode and name in every view.
    [Arguments]    ${namespace}    ${mode}
    ${changed} =    Reconfigure Namespace    ${namespace}    mode=${mode}
    Get Namespace Property    ${changed}    mode    ==    ${mode}
    Get Namespace Property    ${changed}    name    ==    ${namespace.name}
    Namespace Views Should Agree    ${changed}
    RETURN    ${changed}

Change To Sector And Back
    [Documentation]    Change a devdax namespace to sector and back. Return it with the number of its bytes that sector
    ...    kept.
    [Arguments]    ${namespace}
    ${devdax} =    Read Info Block    ${namespace}
    ${changed} =    Change Mode And Keep Name    ${namespace}    sector
    ${sector} =    Read Info Block    ${changed}
    ${again} =    Change Mode And Keep Name    ${changed}    devdax
    ${kept} =    Subtract Size    ${sector.map_offset}    ${devdax.data_offset}
    RETURN    ${again}    ${kept}

Disable And Enable
    [Documentation]    Disable and enable a namespace. Fail unless it is the same as before.
    [Arguments]    ${namespace}
    ${uuid} =    Get Namespace Property    ${namespace}    uuid
    Disable Namespace    ${namespace}
    Get Namespace Property    ${namespace}    state    ==    disabled
    Get Namespace Property    ${namespace}    mode    ==    raw
    Run On Host    test    -e    ${namespace.device}    expected_status=1
    ${again} =    Enable Namespace    ${uuid}
    Should Be Equal    ${again}    ${namespace}
    Get Namespace Property    ${again}    uuid    ==    ${uuid}
    Namespace Views Should Agree    ${again}

Names In The Labels Should Be
    [Documentation]    Read the labels of the region's DIMMs freshly. Fail unless the UUID has that name on each DIMM.
    [Arguments]    ${uuid}    ${name}
    ${areas} =    Read Labels    ${REGION}
    FOR    ${area}    IN    @{areas}
        ${label} =    Get Record With    ${area.labels}    uuid=${uuid}
        Should Be Equal    ${label.name}    ${name}
    END
