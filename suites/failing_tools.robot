*** Settings ***
Documentation     The errors and the leftovers when ndctl or the connection fails in the middle of a call.
...
...               The failing tool is a stand-in. It is mounted over the host's ndctl in a mount namespace that only the
...               commands of one test see. Some stand-ins run the host's own ndctl first.

Resource          ../resources/host.resource

Suite Setup       Take A Fitting Host Or Skip    labels
Suite Teardown    Give The Host Back
Test Setup        Choose A Region And Remember Its Free Space
Test Teardown     Nothing Should Be Left

Test Tags         ns-14


*** Test Cases ***
A Tool That Hangs Is Ended Within The Timeout
    [Documentation]    The error has the command and says that nothing was created.
    [Setup]    Choose A Region And A Short Timeout
    Creating Should Fail    hangs_in_create
    ...    did not end within 5 s    create-namespace --no-autolabel --region ${REGION}    It left nothing
    [Teardown]    Restore The Timeout And Check For Leftovers

A Tool That Dies After Its Work Leaves No Namespace
    [Documentation]    ndctl creates the namespace and is killed. The error says so, and the namespace is removed.
    Creating Should Fail    dies_after_create
    ...    create-namespace --no-autolabel --region ${REGION}    exit status: -9    was removed again

Output That Is Not JSON Is An Error
    [Documentation]    The tool exits 0 and prints no JSON.
    Listing Should Fail    prints_no_json
    ...    not complete JSON    ndctl list    exit status: 0    Segmentation fault

Incomplete JSON Is An Error
    [Documentation]    The tool exits 0, but its output is cut off.
    Listing Should Fail    prints_incomplete_json
    ...    not complete JSON    ndctl list    exit status: 0

A Failing Tool Is Reported With Its Command And Standard Error
    [Documentation]    The error has the command, the exit status and the standard error.
    Listing Should Fail    fails
    ...    ndctl list    exit status: 6    the bus is on fire

A Connection That Breaks During A Create Leaves No Namespace
    [Documentation]    ndctl creates the namespace. The SSH server of the connection is killed before ndctl can report
    ...    it.
    Skip Unless The Host Is Reached Over SSH
    Creating Should Fail    cuts_connection_after_create
    ...    connection    broke    create-namespace --no-autolabel --region    was removed again


*** Keywords ***
Choose A Region And Remember Its Free Space
    [Documentation]    Select the region with the largest free extent.
    ${chosen} =    Choose A Region
    VAR    ${FREE} =    ${chosen.available_size}    scope=SUITE

Choose A Region And A Short Timeout
    [Documentation]    Select the region, and set a timeout that a tool that hangs exceeds soon.
    Choose A Region And Remember Its Free Space
    ${timeout} =    Set Command Timeout    5 seconds
    VAR    ${TIMEOUT} =    ${timeout}    scope=SUITE

Restore The Timeout And Check For Leftovers
    [Documentation]    Set the timeout from before the test, and check that nothing is left.
    Set Command Timeout    ${TIMEOUT}
    Nothing Should Be Left

Creating Should Fail
    [Documentation]    Expect a create to fail with a stand-in for ndctl, with all of these texts in its error.
    [Arguments]    ${stand_in}    @{texts}
    Look At The Host With A Stand-In    ndctl    ${stand_in}
    ${message} =    Run Keyword And Expect Error    *
    ...    Create Namespace    ${REGION}    mode=devdax    size=at least 64MiB    name=unlucky
    Should Contain All    ${message}    @{texts}

Listing Should Fail
    [Documentation]    Expect a listing to fail with a stand-in for ndctl, with all of these texts in its error.
    [Arguments]    ${stand_in}    @{texts}
    Look At The Host With A Stand-In    ndctl    ${stand_in}
    ${message} =    Run Keyword And Expect Error    *    Get Namespaces
    Should Contain All    ${message}    @{texts}

Nothing Should Be Left
    [Documentation]    Check on the host itself that there is no namespace, and as much free space as before.
    Look At The Host Itself
    Namespace Should Not Exist    unlucky
    Get Region Property    ${REGION}    available size    ==    ${FREE}
