*** Settings ***
Documentation     Equal pieces of work, to see how they go with several workers: each has a namespace and a guest.

Resource          ../guest.resource

Suite Setup       Take A Region Of A Host
Suite Teardown    Close All Hosts
Test Teardown     Clean Up Host
Test Template     A Guest's Bytes Should Be On Its Host


*** Test Cases ***    SEED
The First Piece    first
The Second Piece    second
The Third Piece    third
The Fourth Piece    fourth


*** Keywords ***
A Guest's Bytes Should Be On Its Host
    [Documentation]    Boots a guest on a namespace, has it write, and finds that on the host when the guest is gone.
    [Arguments]    ${seed}
    ${namespace} =    Create Devdax Namespace    64MiB    ${seed}    region=${REGION}
    ${guest} =    Start New Guest    vpmem=${namespace}
    Write Pattern In Guest    ${guest}    ${namespace}    seed=${seed}    length=8MiB
    Destroy Guest    ${guest}
    Host Should Hold Guest Pattern    ${guest}    ${namespace}    seed=${seed}    length=8MiB
