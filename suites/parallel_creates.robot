*** Settings ***
Documentation     Two workers create namespaces in one region of one host at the same moment.

Library           OperatingSystem
Library           Process
Resource          ../resources/host.resource

Suite Setup       Take A Host
Suite Teardown    Give The Host Back


*** Variables ***
${ROUNDS}    2


*** Test Cases ***
Two Workers Create In One Region At Once
    [Documentation]    The workers are separate robot processes. Each namespace exists exactly once, and none is lost.
    [Tags]    ns-12
    ${region} =    Get Region With Largest Free Extent    at_least=256MiB
    Start A Worker    worker=one    other=two    region=${region.dev}
    Start A Worker    worker=two    other=one    region=${region.dev}
    Every Worker Should End Well
    ${after} =    Get Region    ${region}
    VAR    @{wanted} =    @{{sorted(f'kept-{worker}-{i}' for worker in ('one', 'two') for i in range(${ROUNDS}))}}
    VAR    @{found} =    @{{sorted(each.name for each in $after.namespaces if each.name.startswith('kept-'))}}
    Should Be Equal    ${found}    ${wanted}
    Should Be Equal    ${{len({each.uuid for each in $after.namespaces})}}    ${{len($after.namespaces)}}
    Get Region Property
    ...    ${region}
    ...    available size
    ...    ==
    ...    ${{$region.available_size - len($wanted) * 16 * 1024 * 1024}}
    [Teardown]    End The Workers


*** Keywords ***
Start A Worker
    [Documentation]    Start robot with the suite of one worker, with this run's id.
    [Arguments]    ${worker}    ${other}    ${region}
    VAR    ${meeting} =    ${OUTPUT_DIR}/meeting-of-the-workers
    OperatingSystem.Create Directory    ${meeting}
    ${run} =    Get Run Id
    ${aliases} =    Get Open Hosts
    Process.Start Process    ${{sys.executable}}    -m    robot    --output    NONE    --log    NONE
    ...    --report    NONE    --variable    HOSTS:${HOSTS}    --variable    HOST:${aliases}[0]
    ...    --variable    REGION:${region}    --variable    WORKER:${worker}
    ...    --variable    OTHER:${other}    --variable    MEETING:${meeting}    --variable    ROUNDS:${ROUNDS}
    ...    ${CURDIR}/../resources/workers/create_namespaces.robot
    ...    alias=${worker}    env:VPMEM_RUN_ID=${run}    stdout=${OUTPUT_DIR}/worker-${worker}.txt    stderr=STDOUT

End The Workers
    [Documentation]    Remove the worker processes and the files through which the workers meet.
    Process.Terminate All Processes    kill=True
    OperatingSystem.Remove Directory    ${OUTPUT_DIR}/meeting-of-the-workers    recursive=True

Every Worker Should End Well
    [Documentation]    Wait for both workers. Show the output of a worker that fails.
    FOR    ${worker}    IN    one    two
        ${ended} =    Process.Wait For Process    ${worker}    timeout=5 minutes    on_timeout=kill
        Should Be Equal As Integers    ${ended.rc}    0    ${ended.stdout}
    END
