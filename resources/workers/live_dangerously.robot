*** Settings ***
Documentation     One run with everything that a run may have on a host. It reports a step before the step starts.
...
...               The run ends normally, fails, or is killed in the middle of a step.

Library           OperatingSystem
Library           VpmemLibrary

Suite Setup       Open The Host
Suite Teardown    Clean Up And Close


*** Variables ***
${HOSTS}      ${EMPTY}
${HOST}       ${EMPTY}
${MEETING}    ${EMPTY}
${FAILING}    ${EMPTY}


*** Test Cases ***
All Objects That A Run May Have
    [Documentation]    Create namespaces of two kinds, a mount, two claims and a guest that writes. Remove them again.
    Make Namespaces And Mount One
    Report Step    claim
    ${claims} =    Claim Namespaces    SMALL    SMALL
    Write Pattern    ${claims[0].namespace}    seed=not to be found by anybody    length=1MiB
    ${guest} =    Boot A Guest That Writes    ${claims[1].namespace}
    IF    $FAILING    Fail    The suite asked this run to fail.
    End The Guest    ${guest}
    Report Step    release
    Release Claims    @{claims}


*** Keywords ***
Open The Host
    [Documentation]    Open the host as any suite does: reclaim the leftovers of dead runs, and remember the host's
    ...    state.
    Open Host From File    ${HOSTS}    ${HOST}
    Clean Up After Dead Runs
    Remember Host State

Make Namespaces And Mount One
    [Documentation]    Create two namespaces of the setting, and one namespace with a file system.
    Report Step    namespaces
    Create Pmem Namespaces    SMALL:danger_1|danger_2    SMALL=at least 32MiB
    Report Step    mount
    ${region} =    Get Region With Largest Free Extent    at_least=64MiB
    ${namespace} =    Create Namespace    ${region}    mode=fsdax    size=at least 64MiB    name=danger_fs
    Make File System    ${namespace}    ext4    overwrite=True
    Mount File System    ${namespace}

Boot A Guest That Writes
    [Documentation]    Boot a guest on a claimed namespace, write in it, and return the guest.
    [Arguments]    ${namespace}
    Report Step    guest
    ${guest} =    Define Guest    vpmem=${namespace}
    Start Guest    ${guest}
    Wait Until Guest Is Ready    ${guest}
    Report Step    running
    Write Pattern In Guest    ${guest}    seed=not to be found by anybody    length=1MiB
    RETURN    ${guest}

End The Guest
    [Documentation]    End the guest and remove its domain.
    [Arguments]    ${guest}
    Report Step    undefine
    Stop Guest    ${guest}    how=destroy
    Undefine Guest    ${guest}

Report Step
    [Documentation]    Report the step that starts now.
    [Arguments]    ${step}
    OperatingSystem.Create File    ${MEETING}/at-${step}

Clean Up And Close
    [Documentation]    Clean up as any suite does: fail on any leftovers.
    ${claims} =    Get Claims
    Release Claims    @{claims}
    Clean Up Host
    Host State Should Be Unchanged
    Close All Hosts
