*** Settings ***
Documentation     Workers that share a host have one region each. No worker has the whole host meanwhile.
...
...               This worker acts as both workers with two connections, because a lease belongs to a connection.

Resource          ../resources/host.resource

Suite Setup       Take A Region Of A Host
Suite Teardown    Close All Hosts

Test Tags         ns-12


*** Test Cases ***
The Next Worker Gets A Different Region
    [Documentation]    The namespaces of both workers are in two regions. The host's kernel lists a lock for each
    ...    region.
    ${first} =    Create Namespace    ${REGION}    mode=devdax    size=at least 32MiB    name=first
    Open The Host Once More    second
    ${other} =    Reserve Region    at_least=64MiB
    Should Not Be Equal    ${other.dev}    ${REGION.dev}
    ${second} =    Create Namespace    ${other}    mode=devdax    size=at least 32MiB    name=second
    ${first} =    Get Namespace    ${first}
    ${second} =    Get Namespace    ${second}
    Should Be Equal    ${first.region}    ${REGION.dev}
    Should Be Equal    ${second.region}    ${other.dev}
    FOR    ${region}    IN    ${REGION}    ${other}
        Region Should Be Locked    ${region}
    END
    [Teardown]    Clean Up Both

A Request For A Reserved Region Fails At Its Timeout And Names The Holder
    [Documentation]    The second worker acquires the other regions. Its next request waits until the timeout, and the
    ...    error names the holder.
    Open The Host Once More    second
    Run Keyword And Expect Error    *Region ${REGION.dev} of second is held by run*Nothing was released within 0 s*
    ...    Hold All Regions At Once
    [Teardown]    Clean Up Both

No Worker Gets The Whole Host Meanwhile
    [Documentation]    A suite that needs the whole host waits until the last region is released.
    Open The Host Once More    second
    Run Keyword And Expect Error    Host second is held by run*Nothing was released within 0 s*
    ...    Reserve Host    timeout=0s
    [Teardown]    Clean Up Both


*** Keywords ***
Open The Host Once More
    [Documentation]    Open the host over a new connection, as another worker does.
    [Arguments]    ${alias}
    Open Host From File    ${HOSTS}    ${NAME}    alias=${alias}

Hold All Regions At Once
    [Documentation]    Acquire one region after another until no region is free.
    ${regions} =    Get Regions
    FOR    ${_}    IN    @{regions}
        Reserve Region    timeout=0s
    END

Region Should Be Locked
    [Documentation]    Fail unless the host's kernel lists a lock on the lease record of the region.
    [Arguments]    ${region}
    ${cookie} =    Convert To Hex    ${region.iset_id}    lowercase=yes
    Run Script On Host    lease_is_locked.sh    region-${cookie}

Clean Up Both
    [Documentation]    Clean up both workers and close the second worker's connection.
    Clean Up Host
    ${open} =    Get Open Hosts
    IF    'second' in $open    Close Host    second
    Switch Host    ${NAME}
    Clean Up Host
