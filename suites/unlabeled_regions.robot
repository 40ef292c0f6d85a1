*** Settings ***
Documentation     A region without labels. One namespace fills it: it changes its mode, backs a guest, and is as before
...               afterwards. The run's mark is in its info block.

Resource          ../resources/guest.resource

Suite Setup       Take A Host And A Region Without Labels Or Skip
Suite Teardown    Give The Host Back
Test Teardown     Make The Namespace Bare Again


*** Variables ***
${LENGTH}       8MiB
${NO_REGION}
...             SEPARATOR=${SPACE}
...             Every region of this host has labels, or cannot be mapped. Fix: use a host with virtio-pmem devices, or
...             with an NVDIMM whose label area is all zeros since the host booted.


*** Test Cases ***
Each Mode Agrees In Every View And Has The Predicted Size
    [Documentation]    ndctl, sysfs and the device node agree on the mode and the size. Destroying the namespace makes
    ...    it bare again.
    [Tags]    ns-01    ns-05    lb-04
    FOR    ${mode}    IN    fsdax    devdax    sector
        ${namespace} =    Reconfigure Namespace    ${ONLY}    mode=${mode}    foreign=True
        ${predicted} =    Get Predicted Usable Size    ${REGION.size}    mode=${mode}    region=${REGION}
        Get Namespace Property    ${namespace}    mode    ==    ${mode}
        Get Namespace Property    ${namespace}    size    ==    ${predicted}
        Namespace Views Should Agree    ${namespace}
    END
    Destroy Namespace    ${ONLY}    foreign=True
    Region Should Be As Before    ${REGION}

What Needs A Label Is Refused
    [Documentation]    Creating and renaming a namespace are refused. The namespace belongs to no run. Nothing changes.
    [Tags]    lb-04
    Run Keyword And Expect Error    *${REGION.dev}*has no labels*
    ...    Create Namespace    ${REGION}    mode=devdax    size=at least 64MiB
    Run Keyword And Expect Error    *no run made it*    Reconfigure Namespace    ${ONLY}    mode=devdax
    Run Keyword And Expect Error    *has no label, and only a label can store a name*
    ...    Rename Namespace    ${ONLY}    named    foreign=True
    Run Keyword And Expect Error    *can have a mark*
    ...    Reconfigure Namespace    ${ONLY}    mode=sector    foreign=True    own=True
    Region Should Be As Before    ${REGION}

Content Is Written And Wiped
    [Documentation]    The mark allows each keyword to change the namespace. Cleanup removes mode and mark.
    [Tags]    ct-02    ow-01    lb-04
    ${namespace} =    Make The Namespace Own    devdax
    Write Pattern    ${namespace}    seed=unlabeled    length=${LENGTH}
    Pattern Should Be Intact    ${namespace}    seed=unlabeled    length=${LENGTH}
    Wipe Content    ${namespace}    offset=1MiB    length=8KiB
    Content Should Be Zero    ${namespace}    offset=1MiB    length=8KiB
    Pattern Should Be Intact    ${namespace}    seed=unlabeled    length=1MiB
    Clean Up Host
    Region Should Be As Before    ${REGION}

The Namespace Becomes System RAM And A Device Again
    [Documentation]    MemTotal grows and shrinks by the predicted amount.
    [Tags]    dx-02
    ${namespace} =    Make The Namespace Own    devdax    map=mem
    ${before} =    Get Memory Total
    ${growth} =    Get Predicted Memory Growth    ${namespace}
    Reconfigure Dax Device    ${namespace}    mode=system-ram
    Memory Should Have Grown    ${growth}    from=${before}
    Reconfigure Dax Device    ${namespace}    mode=devdax
    Memory Should Have Grown    ${0}    from=${before}

A Guest On The Namespace Sees It In Every View
    [Documentation]    The host finds the guest's bytes in the namespace at the predicted offset.
    [Tags]    gd-01    ps-02    ps-07
    ${namespace} =    Make The Namespace Own    devdax    map=mem
    ${guest} =    Start New Guest    vpmem=${namespace}
    All Views Should Agree    ${guest}
    Write Pattern In Guest    ${guest}    seed=in a guest    length=${LENGTH}
    Stop Guest    ${guest}    how=destroy
    Host Should Hold Guest Pattern    ${guest}    ${namespace}    seed=in a guest    length=${LENGTH}

A Guest Has The Namespace As A Virtio Pmem Device
    [Documentation]    Every view has the device. The bytes that the guest flushes are in the namespace.
    [Tags]    vp-01
    ${namespace} =    Make The Namespace Own    fsdax
    ${device} =    New Vpmem Device    ${namespace}    model=virtio_pmem
    ${guest} =    Start New Guest With Virtio Pmem    ${device}
    Skip Unless Guests Have Virtio Pmem
    All Views Should Agree    ${guest}
    Write Pattern In Guest    ${guest}    seed=virtio    length=${LENGTH}
    Stop Guest    ${guest}    how=destroy
    Host Should Hold Guest Pattern    ${guest}    ${namespace}    seed=virtio    length=${LENGTH}


*** Keywords ***
Take A Host And A Region Without Labels Or Skip
    [Documentation]    Take a host, and choose a region that one bare namespace fills. Skip if there is none.
    Take A Host
    ${regions} =    Get Regions
    VAR    ${chosen} =    ${None}
    FOR    ${region}    IN    @{regions}
        ${labels} =    Get Region Property    ${region}    label state
        IF    $labels in ('none', 'unlabeled') and not $region.provider.startswith('nfit_test')
            VAR    ${chosen} =    ${region}
            BREAK
        END
    END
    Skip If    $chosen is None    ${NO_REGION}
    VAR    ${REGION} =    ${chosen}    scope=SUITE
    VAR    ${ONLY} =    ${chosen.namespaces[0].dev}    scope=SUITE

Make The Namespace Own
    [Documentation]    Change the mode of the namespace, and give it this run's mark. Return its record.
    [Arguments]    ${mode}    &{options}
    ${namespace} =    Reconfigure Namespace    ${ONLY}    mode=${mode}    foreign=True    own=True    &{options}
    Get Namespace Property    ${namespace}    mode    ==    ${mode}
    RETURN    ${namespace}

Make The Namespace Bare Again
    [Documentation]    Clean up the host. Destroy the namespace if it has a mode without a mark.
    Clean Up Host
    ${namespace} =    Get Namespace    ${ONLY}
    IF    $namespace.uuid    Destroy Namespace    ${ONLY}    foreign=True
    Region Should Be As Before    ${REGION}

Memory Should Have Grown
    [Documentation]    Fail unless MemTotal is larger than before by this number of bytes.
    [Arguments]    ${growth}    ${from}
    ${total} =    Get Memory Total
    Should Be Equal As Integers    ${total}    ${{$from + $growth}}
