*** Settings ***
Documentation     The content of persistent memory in a snapshot of a guest's memory.
...
...               QEMU's migration stream contains every memory block of a guest, and the backing of an nvdimm is such a
...               block. So a revert also restores the device. All writes since the snapshot are lost, from the guest or
...               the host. Namespaces that the guest does not have stay unchanged.

Resource          ../resources/guest.resource

Suite Setup       Boot A Guest On One Namespace
Suite Teardown    Remove The Snapshot And Give The Host Back


*** Variables ***
${LENGTH}    1MiB
${MEMORY}    /var/tmp/vpmem-snapshot-${{secrets.token_hex(4)}}


*** Test Cases ***
A Managed Save Restores The Device's Content
    [Documentation]    The guest continues the same boot and finds its own bytes. The bytes that the host wrote
    ...    meanwhile are lost.
    [Tags]    sv-01
    Write Pattern In Guest    ${GUEST}    seed=before the save    length=${LENGTH}
    ${boot} =    Get Guest Boot Id    ${GUEST}
    Save Guest    ${GUEST}
    Host Should Hold Guest Pattern    ${GUEST}    ${NAMESPACE}    seed=before the save    length=${LENGTH}
    Write Pattern    ${NAMESPACE}    seed=meanwhile    length=${LENGTH}
    Pattern Should Be Intact    ${NAMESPACE}    seed=meanwhile    length=${LENGTH}
    Start Guest    ${GUEST}
    Get Guest Boot Id    ${GUEST}    ==    ${boot}
    Guest And Host Should Hold    before the save

A Memory Snapshot Restores The Device And Nothing Else
    [Documentation]    Writes of the guest after the snapshot are lost. Writes of the host to a namespace that the guest
    ...    does not have stay.
    [Tags]    sn-01
    Write Pattern In Guest    ${GUEST}    seed=before the snapshot    length=${LENGTH}
    ${boot} =    Get Guest Boot Id    ${GUEST}
    Take Guest Snapshot    ${GUEST}    moment    memory_file=${MEMORY}
    Write Pattern In Guest    ${GUEST}    seed=after the snapshot    length=${LENGTH}
    Write Pattern    ${NEIGHBOUR}    seed=after the snapshot
    Host Should Hold Guest Pattern    ${GUEST}    ${NAMESPACE}    seed=after the snapshot    length=${LENGTH}
    Revert To The Moment Or Skip
    Get Guest Boot Id    ${GUEST}    ==    ${boot}
    Guest And Host Should Hold    before the snapshot
    Pattern Should Be Intact    ${NEIGHBOUR}    seed=after the snapshot

A Guest Without A Disk Image Cannot Have An Internal Snapshot
    [Documentation]    An internal snapshot is stored in a disk image. libvirt refuses with its error code, and the
    ...    guest does not change.
    [Tags]    sn-01
    Write Pattern In Guest    ${GUEST}    seed=refused    length=${LENGTH}
    Run Keyword And Expect Error    *libvirt error code 67*    Take Guest Snapshot    ${GUEST}    internal
    Get Guest State    ${GUEST}    ==    running
    Guest And Host Should Hold    refused


*** Keywords ***
Revert To The Moment Or Skip
    [Documentation]    Revert the guest to its snapshot. If the host's libvirt does not support this, check that the
    ...    guest is unchanged, and skip.
    TRY
        Revert Guest To Snapshot    ${GUEST}    moment
    EXCEPT    *This libvirt reverts no guest to a snapshot*    type=GLOB    AS    ${reason}
        Guest And Host Should Hold    after the snapshot
        Skip    ${reason}
    END

Guest And Host Should Hold
    [Documentation]    Fail unless the guest finds the pattern in its device, and the host finds it in the namespace.
    [Arguments]    ${seed}
    Guest Pattern Should Be Intact    ${GUEST}    seed=${seed}    length=${LENGTH}
    Host Should Hold Guest Pattern    ${GUEST}    ${NAMESPACE}    seed=${seed}    length=${LENGTH}

Remove The Snapshot And Give The Host Back
    [Documentation]    Remove the file of the guest's memory explicitly, because the automatic cleanup does not cover
    ...    its directory.
    TRY
        Run On Host    rm    -f    ${MEMORY}
    FINALLY
        Give The Host Back
    END
