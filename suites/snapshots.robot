*** Settings ***
Documentation     What a snapshot of a guest's memory holds of its persistent memory, by content.
...
...               QEMU's stream has every block of memory that a guest was given, and the backing of an nvdimm is one.
...               So a device goes back with the guest's memory: what was written to it since is gone, whoever wrote
...               it. What the guest was not given stays as it is.

Resource          ../resources/guest.resource

Suite Setup       Boot A Guest On One Namespace
Suite Teardown    Remove The Snapshot And Give The Host Back


*** Variables ***
${LENGTH}    1MiB
${MEMORY}    /var/tmp/vpmem-snapshot-${{secrets.token_hex(4)}}


*** Test Cases ***
A Managed Save Takes The Device Back To Where It Was
    [Documentation]    The guest goes on in the same boot and finds its bytes, not those that the host wrote meanwhile.
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

A Memory Snapshot Takes The Device Back And Nothing Else
    [Documentation]    What the guest wrote after the snapshot is gone; what the host wrote to a namespace that the
    ...    guest has not stays.
    [Tags]    sn-01
    Write Pattern In Guest    ${GUEST}    seed=before the snapshot    length=${LENGTH}
    ${boot} =    Get Guest Boot Id    ${GUEST}
    Take Guest Snapshot    ${GUEST}    moment    memory_file=${MEMORY}
    Write Pattern In Guest    ${GUEST}    seed=after the snapshot    length=${LENGTH}
    Write Pattern    ${NEIGHBOUR}    seed=after the snapshot
    Host Should Hold Guest Pattern    ${GUEST}    ${NAMESPACE}    seed=after the snapshot    length=${LENGTH}
    Revert Guest To Snapshot    ${GUEST}    moment
    Get Guest Boot Id    ${GUEST}    ==    ${boot}
    Guest And Host Should Hold    before the snapshot
    Pattern Should Be Intact    ${NEIGHBOUR}    seed=after the snapshot

A Guest Without A Disk Image Has No Internal Snapshot
    [Documentation]    It would lie in one: libvirt refuses with its code, and the guest is unharmed.
    [Tags]    sn-01
    Write Pattern In Guest    ${GUEST}    seed=refused    length=${LENGTH}
    Run Keyword And Expect Error    *libvirt error code 67*    Take Guest Snapshot    ${GUEST}    internal
    Get Guest State    ${GUEST}    ==    running
    Guest And Host Should Hold    refused


*** Keywords ***
Guest And Host Should Hold
    [Documentation]    The pattern as the guest reads it in its device, and the host in the namespace.
    [Arguments]    ${seed}
    Guest Pattern Should Be Intact    ${GUEST}    seed=${seed}    length=${LENGTH}
    Host Should Hold Guest Pattern    ${GUEST}    ${NAMESPACE}    seed=${seed}    length=${LENGTH}

Remove The Snapshot And Give The Host Back
    [Documentation]    The file of the guest's memory lies outside what is cleaned up by itself.
    TRY
        Run On Host    rm    -f    ${MEMORY}
    FINALLY
        Give The Host Back
    END
