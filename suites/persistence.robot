*** Settings ***
Documentation     The data that a guest writes and flushes persists. The guest and the host read it.

Resource          ../resources/guest.resource

Suite Setup       Boot A Guest And Write Into It
Suite Teardown    Give The Host Back

Test Tags         smoke


*** Variables ***
${SEED}      written by the guest
${LENGTH}    16MiB


*** Test Cases ***
The Host Reads The Guest's Bytes At The Predicted Offset
    [Documentation]    The host finds the guest's bytes in the namespace. The neighbour's bytes are unchanged.
    [Tags]    ps-07
    Host Should Hold Guest Pattern    ${GUEST}    ${NAMESPACE}    seed=${SEED}    length=${LENGTH}
    Pattern Should Be Intact    ${NEIGHBOUR}    seed=the neighbour

A Pattern Survives A Guest Reboot
    [Documentation]    The guest's kernel has a new boot id, and the bytes are the same.
    [Tags]    ps-01
    ${before} =    Get Guest Boot Id    ${GUEST}
    Reboot Guest    ${GUEST}
    Get Guest Boot Id    ${GUEST}    !=    ${before}
    Guest Pattern Should Be Intact    ${GUEST}    seed=${SEED}    length=${LENGTH}

A Pattern Survives Destroy And Start
    [Documentation]    QEMU is ended without a guest shutdown, and a new QEMU is started. The process is different, the
    ...    bytes are the same.
    [Tags]    ps-02
    ${before} =    Get Guest Process    ${GUEST}
    Stop Guest    ${GUEST}    how=destroy
    Get Guest State    ${GUEST}    ==    shut off
    Host Should Hold Guest Pattern    ${GUEST}    ${NAMESPACE}    seed=${SEED}    length=${LENGTH}
    Start Guest    ${GUEST}
    Get Guest Process    ${GUEST}    !=    ${before}
    Guest Pattern Should Be Intact    ${GUEST}    seed=${SEED}    length=${LENGTH}


*** Keywords ***
Boot A Guest And Write Into It
    [Documentation]    Boot one guest and write a pattern in it. Write a different pattern to the neighbour namespace.
    Boot A Guest On One Namespace
    Write Pattern    ${NEIGHBOUR}    seed=the neighbour
    Write Pattern In Guest    ${GUEST}    seed=${SEED}    length=${LENGTH}
