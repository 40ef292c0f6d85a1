*** Settings ***
Documentation     Equal pieces of work, to measure several workers. Each piece has a namespace and a guest.

Resource          ../guest.resource

Suite Setup       Take A Region Of A Host
Suite Teardown    Close All Hosts
Test Teardown     Clean Up Host
Test Template     Find A Guest's Bytes On Its Host


*** Test Cases ***    SEED
The First Piece    first
The Second Piece    second
The Third Piece    third
The Fourth Piece    fourth


*** Keywords ***
Find A Guest's Bytes On Its Host
    [Documentation]    Boot a guest on a namespace and write in it. Find the bytes on the host after the guest is
    ...    destroyed.
    [Arguments]    ${seed}
    ${namespace} =    Create Devdax Namespace    64MiB    ${seed}    region=${REGION}
    ${guest} =    Start New Guest    vpmem=${namespace}
    Write Pattern In Guest    ${guest}    ${namespace}    seed=${seed}    length=8MiB
    Stop Guest    ${guest}    how=destroy
    Host Should Hold Guest Pattern    ${guest}    ${namespace}    seed=${seed}    length=8MiB
