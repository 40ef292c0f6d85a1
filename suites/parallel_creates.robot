*** Settings ***
Documentation     Two workers create namespaces in one region of one host at the same moment.

Resource          ../resources/other_runs.resource

Suite Setup       Take A Host
Suite Teardown    Give The Host Back
Test Setup        Choose A Region    at_least=256MiB
Test Teardown     End The Workers


*** Variables ***
${ROUNDS}    2
@{KEPT}      kept-one-0    kept-one-1    kept-two-0    kept-two-1


*** Test Cases ***
Two Workers Create In One Region At Once
    [Documentation]    The workers are separate robot processes. Each namespace exists exactly once, and none is lost.
    [Tags]    ns-12
    ${before} =    Get Region    ${REGION}
    Start A Creator    one    other=two
    Start A Creator    two    other=one
    Worker Should End With    one    0
    Worker Should End With    two    0
    Kept Namespaces Should Be    ${KEPT}
    Namespaces Should Use    4    16MiB    of=${before}


*** Keywords ***
Start A Creator
    [Documentation]    Start a worker of this run, which creates a namespace in each round at the same moment as the
    ...    other worker.
    [Arguments]    ${worker}    ${other}
    ${run} =    Get Run Id
    Start Worker Suite    create_namespaces    ${worker}    run_id=${run}
    ...    REGION=${REGION}    WORKER=${worker}    OTHER=${other}    ROUNDS=${ROUNDS}

Kept Namespaces Should Be
    [Documentation]    Fail unless the region has exactly the namespaces with these names, each with a different UUID.
    [Arguments]    ${names}
    ${region} =    Get Region    ${REGION}
    ${found} =    Get Field Of Each    ${region.namespaces}    name
    ${uuids} =    Get Field Of Each    ${region.namespaces}    uuid
    ${kept} =    Collections.Get Matches    ${found}    kept-*
    Collections.Lists Should Be Equal    ${kept}    ${names}    ignore_order=True
    Collections.List Should Not Contain Duplicates    ${uuids}

Namespaces Should Use
    [Documentation]    Fail unless this number of namespaces of this size use the space that the region has lost.
    [Arguments]    ${number}    ${size}    ${of}
    ${each} =    Get Smallest Namespace Size    ${REGION}    at_least=${size}
    ${used} =    Multiply Size    ${each}    ${number}
    ${free} =    Subtract Size    ${of.available_size}    ${used}
    Get Region Property    ${REGION}    available size    ==    ${free}
