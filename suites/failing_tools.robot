*** Settings ***
Documentation     The errors and the leftovers when ndctl or the connection fails in the middle of a call.
...
...               The failing tool is a stand-in. It is mounted over the host's ndctl in a mount namespace that only the
...               commands of one test see. Some stand-ins run the host's own ndctl first.

Resource          ../resources/host.resource

Suite Setup       Take A Host
Suite Teardown    Give The Host Back
Test Setup        Choose A Region
Test Teardown     Nothing Should Be Left

Test Tags         ns-14


*** Test Cases ***
A Tool That Hangs Is Ended Within The Timeout
    [Documentation]    The error has the command and says that nothing was created.
    Creating Should Fail    case "$1" in create-namespace) exec sleep 600;; esac
    ...    did not end within 5 s    create-namespace --no-autolabel --region ${REGION}    It left nothing

A Tool That Dies After Its Work Leaves No Namespace
    [Documentation]    ndctl creates the namespace and is killed. The error says so, and the namespace is removed.
    Creating Should Fail    case "$1" in create-namespace) /mnt/ndctl "$@"; kill -KILL $$;; esac
    ...    create-namespace --no-autolabel --region ${REGION}    exit status: -9    was removed again

Output That Is Not JSON Is An Error
    [Documentation]    The tool exits 0 and prints no JSON.
    Listing Should Fail    echo 'Segmentation fault (core dumped)'; exit 0
    ...    not complete JSON    ndctl list    exit status: 0    Segmentation fault

Incomplete JSON Is An Error
    [Documentation]    The tool exits 0, but its output is cut off.
    Listing Should Fail    /mnt/ndctl "$@" | head -c 200; exit 0    not complete JSON    ndctl list    exit status: 0

A Failing Tool Is Reported With Its Command And Standard Error
    [Documentation]    The error has the command, the exit status and the standard error.
    Listing Should Fail    echo 'the bus is on fire' >&2; exit 6    ndctl list    exit status: 6    the bus is on fire

A Connection That Breaks During A Create Leaves No Namespace
    [Documentation]    ndctl creates the namespace. The SSH server of the connection is killed before ndctl can report
    ...    it.
    ${aliases} =    Get Open Hosts
    ${entry} =    Get Host Entry    ${HOSTS}    ${aliases}[0]
    Skip If    $entry.address == 'local'    This machine is opened without SSH: give a host with an address.
    VAR    ${kill} =    pid=$$
    ...    until grep -qs '^sshd' "/proc/$pid/comm"; do pid=$(awk '/^PPid:/ { print $2 }' "/proc/$pid/status"); done
    ...    kill -KILL "$pid"
    ...    separator=;${SPACE}
    Creating Should Fail    case "$1" in create-namespace) /mnt/ndctl "$@"; ${kill};; esac
    ...    connection    broke    create-namespace --no-autolabel --region    was removed again


*** Keywords ***
Choose A Region
    [Documentation]    Select the region with the largest free extent.
    ${largest} =    Get Region With Largest Free Extent    at_least=64MiB
    VAR    ${REGION} =    ${largest.dev}    scope=SUITE
    VAR    ${FREE} =    ${largest.available_size}    scope=SUITE

Look Through A Stand-In
    [Documentation]    Replace ndctl by a script that has the given lines and then calls the host's own ndctl.
    [Arguments]    ${lines}
    VAR    ${script} =    \#!/bin/sh\n${lines}\nexec /mnt/ndctl "$@"
    VAR    ${change} =    ndctl=$(command -v ndctl) && mount -t tmpfs none /mnt
    ...    cp "$ndctl" /mnt/ndctl
    ...    printf '%s' "$STAND_IN" >/mnt/stand-in
    ...    chmod 755 /mnt/stand-in
    ...    mount --bind /mnt/stand-in "$ndctl"
    ...    separator=${SPACE}&&${SPACE}
    Look At The Host Through    STAND_IN=${{shlex.quote($script)}} && ${change}

Creating Should Fail
    [Documentation]    Expect a create to fail through a stand-in, with all of these texts in its error.
    [Arguments]    ${lines}    @{texts}
    Look Through A Stand-In    ${lines}
    ${before} =    Set Command Timeout    5 seconds
    TRY
        ${told} =    Run Keyword And Expect Error    *
        ...    Create Namespace    ${REGION}    mode=devdax    size=at least 64MiB    name=unlucky
    FINALLY
        Set Command Timeout    ${before}
    END
    Should Contain All    ${told}    @{texts}

Listing Should Fail
    [Documentation]    Expect a listing to fail through a stand-in, with all of these texts in its error.
    [Arguments]    ${lines}    @{texts}
    Look Through A Stand-In    ${lines}
    ${told} =    Run Keyword And Expect Error    *    Get Namespaces
    Should Contain All    ${told}    @{texts}

Should Contain All
    [Documentation]    Fail unless the text contains every part.
    [Arguments]    ${text}    @{parts}
    FOR    ${part}    IN    @{parts}
        Should Contain    ${text}    ${part}
    END

Nothing Should Be Left
    [Documentation]    Check on the host itself that there is no namespace, and as much free space as before.
    Look At The Host Itself
    Namespace Should Not Exist    unlucky
    Get Region Property    ${REGION}    available size    ==    ${FREE}
