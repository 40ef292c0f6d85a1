*** Settings ***
Documentation     What is told, and what is left, when ndctl or the connection fails in the middle of something.
...
...               The failing tool is a stand-in that lies over the host's ndctl in a mount namespace which only the
...               commands of one test see; where it does its work first, the host's own ndctl does it.

Resource          ../resources/host.resource

Suite Setup       Take A Host
Suite Teardown    Give The Host Back
Test Setup        Choose A Region
Test Teardown     Nothing Should Be Left

Test Tags         ns-14


*** Test Cases ***
A Tool That Hangs Is Ended Within The Timeout
    [Documentation]    The error has the command and says that nothing was made.
    Creating Should Fail    case "$1" in create-namespace) exec sleep 600;; esac
    ...    did not end within 5 s    create-namespace --no-autolabel --region ${REGION}    Nothing is left of it

A Tool That Dies After Its Work Leaves Nothing
    [Documentation]    ndctl makes the namespace and is killed: the error says so, and the namespace is gone.
    Creating Should Fail    case "$1" in create-namespace) /mnt/ndctl "$@"; kill -KILL $$;; esac
    ...    create-namespace --no-autolabel --region ${REGION}    exit status: -9    was removed again

A Tool That Prints Garbage Is Not Believed
    [Documentation]    It exits 0 and prints no JSON.
    Listing Should Fail    echo 'Segmentation fault (core dumped)'; exit 0
    ...    not whole JSON    ndctl list    exit status: 0    Segmentation fault

A Tool That Prints Half Of Its JSON Is Not Believed
    [Documentation]    It exits 0 and was cut off.
    Listing Should Fail    /mnt/ndctl "$@" | head -c 200; exit 0    not whole JSON    ndctl list    exit status: 0

A Tool That Fails Gives Its Command And Its Complaint
    [Documentation]    Command, exit status and standard error are in the error.
    Listing Should Fail    echo 'the bus is on fire' >&2; exit 6    ndctl list    exit status: 6    the bus is on fire

A Connection That Breaks In The Middle Of A Create Leaves Nothing
    [Documentation]    ndctl makes the namespace, and before it can say so the connection's server is killed.
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
    [Documentation]    Picks the region with the largest free extent.
    ${roomiest} =    Get Roomiest Region    at_least=64MiB
    VAR    ${REGION} =    ${roomiest.dev}    scope=SUITE
    VAR    ${FREE} =    ${roomiest.available_size}    scope=SUITE

Look Through A Stand-In
    [Documentation]    Puts a script in the place of ndctl: the given lines, and after them the host's own ndctl.
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
    [Documentation]    Expects a create to fail through a stand-in, with all of these texts in its error.
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
    [Documentation]    Expects a listing to fail through a stand-in, with all of these texts in its error.
    [Arguments]    ${lines}    @{texts}
    Look Through A Stand-In    ${lines}
    ${told} =    Run Keyword And Expect Error    *    Get Namespaces
    Should Contain All    ${told}    @{texts}

Should Contain All
    [Documentation]    Expects every text in a text.
    [Arguments]    ${text}    @{parts}
    FOR    ${part}    IN    @{parts}
        Should Contain    ${text}    ${part}
    END

Nothing Should Be Left
    [Documentation]    The host itself tells the truth afterwards: no namespace, and as much room as before.
    Look At The Host Itself
    Namespace Should Not Exist    unlucky
    Get Region Available Size    ${REGION}    ==    ${FREE}
