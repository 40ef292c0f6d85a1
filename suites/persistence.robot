*** Settings ***
Documentation     What a guest writes and flushes is there afterwards, read by the guest and by the host.

Resource          ../resources/guest.resource

Suite Setup       Boot A Guest And Write Into It
Suite Teardown    Give The Host Back

Test Tags         smoke


*** Variables ***
${SEED}      written by the guest
${LENGTH}    16MiB


*** Test Cases ***
The Host Reads What The Guest Wrote At The Predicted Offset
    [Documentation]    The host finds the guest's bytes in the namespace, and the neighbour's unchanged.
    [Tags]    ps-07
    Host Should Hold Guest Pattern    ${GUEST}    ${NAMESPACE}    seed=${SEED}    length=${LENGTH}
    Pattern Should Be Intact    ${NEIGHBOUR}    seed=the neighbour

A Pattern Survives A Guest Reboot
    [Documentation]    The guest's kernel is another boot's, and the bytes are the same.
    [Tags]    ps-01
    ${before} =    Get Guest Boot Id    ${GUEST}
    Reboot Guest    ${GUEST}
    Get Guest Boot Id    ${GUEST}    !=    ${before}
    Guest Pattern Should Be Intact    ${GUEST}    seed=${SEED}    length=${LENGTH}

A Pattern Survives Destroy And Start
    [Documentation]    QEMU is ended without warning and a new one started: another process, the same bytes.
    [Tags]    ps-02
    ${before} =    Get Guest Process    ${GUEST}
    Destroy Guest    ${GUEST}
    Get Guest State    ${GUEST}    ==    shut off
    Host Should Hold Guest Pattern    ${GUEST}    ${NAMESPACE}    seed=${SEED}    length=${LENGTH}
    Start Guest    ${GUEST}
    Get Guest Process    ${GUEST}    !=    ${before}
    Guest Pattern Should Be Intact    ${GUEST}    seed=${SEED}    length=${LENGTH}


*** Keywords ***
Boot A Guest And Write Into It
    [Documentation]    One guest, one pattern in it, another in the namespace beside it.
    Boot A Guest On One Namespace
    Write Pattern    ${NEIGHBOUR}    seed=the neighbour
    Write Pattern In Guest    ${GUEST}    seed=${SEED}    length=${LENGTH}
