*** Settings ***
Documentation     Workers that share a host have a region each, and nobody has the whole host meanwhile.
...
...               Both workers are this one, with a connection each: a lease goes by the connection.

Resource          ../resources/host.resource

Suite Setup       Take A Region Of A Host
Suite Teardown    Close All Hosts

Test Tags         ns-12


*** Test Cases ***
The Next Worker Gets Another Region
    [Documentation]    What both make at once lies in two regions; the host's kernel lists a lock for each.
    ${first} =    Create Namespace    ${REGION}    mode=devdax    size=at least 32MiB    name=first
    Open The Host Once More    second
    ${other} =    Hold Region    at_least=64MiB
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

A Region That Is Held Is Waited For And Then Told
    [Documentation]    Whoever wants this very one is told who has it.
    Open The Host Once More    second
    Run Keyword And Expect Error    *Region ${REGION.dev} of second is held by run*Nothing was given back within 0 s*
    ...    Hold All Regions At Once
    [Teardown]    Clean Up Both

Nobody Has The Whole Host Meanwhile
    [Documentation]    A suite that needs it alone waits until the last region is given back.
    Open The Host Once More    second
    Run Keyword And Expect Error    Host second is held by run*Nothing was given back within 0 s*
    ...    Hold Host    timeout=0s
    [Teardown]    Clean Up Both


*** Keywords ***
Open The Host Once More
    [Documentation]    As another worker does: over a connection of its own.
    [Arguments]    ${alias}
    Open Host From File    ${HOSTS}    ${NAME}    alias=${alias}

Hold All Regions At Once
    [Documentation]    Takes one region after the other until none is left.
    ${regions} =    Get Regions
    FOR    ${_}    IN    @{regions}
        Hold Region    timeout=0s
    END

Region Should Be Locked
    [Documentation]    The host's kernel lists a lock on the record of the region's lease.
    [Arguments]    ${region}
    VAR    ${script} =    inode=$(stat -c %i "/var/lib/vpmem/leases/region-$1") && grep ":$inode " /proc/locks
    Run On Host    sh    -c    ${script}    sh    ${{format($region.iset_id, 'x')}}

Clean Up Both
    [Documentation]    Lets the second worker go.
    Clean Up Host
    ${open} =    Get Open Hosts
    IF    'second' in $open    Close Host    second
    Switch Host    ${NAME}
    Clean Up Host
