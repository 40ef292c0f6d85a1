*** Settings ***
Documentation     The agent, SSH and the serial console give the same answers about one guest.
...
...               One guest with one device and a network is booted once and shared by the tests. The answers of each
...               channel are compared with the agent's answers and with the host.

Library           OperatingSystem
Resource          ../resources/guest.resource

Suite Setup       Boot A Guest With A Network
Suite Teardown    Give The Host Back

Test Tags         gb-05


*** Variables ***
@{CHANNELS}    agent    ssh    serial
&{SERVERS}     agent=qemu-ga    ssh=dropbear    serial=serve
${LENGTH}      1MiB
# Text with a letter outside ASCII, white space, and characters that a shell would read.
${TEXT}        é\t"$(x)\n


*** Test Cases ***
Each Channel Reaches The Same Boot By A Different Program
    [Documentation]    A different program runs the commands of each channel. The kernel's boot id is the same.
    FOR    ${channel}    IN    @{CHANNELS}
        Use Guest Channel    ${GUEST}    ${channel}
        ${parent} =    Run Script In Guest    ${GUEST}    print_parent.sh
        Should Contain    ${parent}    ${SERVERS}[${channel}]
        Get Guest Boot Id    ${GUEST}    ==    ${KNOWN_BOOT}
    END

Each Channel Returns The Same Memory Data
    [Documentation]    The channels return the same regions and namespaces of ndctl, and the same kernel map of physical
    ...    addresses.
    FOR    ${channel}    IN    @{CHANNELS}
        Use Guest Channel    ${GUEST}    ${channel}
        ${regions} =    Get Guest Regions    ${GUEST}
        Should Be Equal    ${regions}    ${KNOWN_REGIONS}
        ${map} =    Run In Guest    ${GUEST}    cat    /proc/iomem
        Should Be Equal    ${map.text}    ${KNOWN_MAP}
        Should Contain    ${map.text}    Persistent Memory
    END

All Views Of The Device Agree Through Each Channel
    [Documentation]    Each channel reads the guest's own view. It is compared with the views of libvirt and QEMU.
    FOR    ${channel}    IN    @{CHANNELS}
        Use Guest Channel    ${GUEST}    ${channel}
        All Views Should Agree    ${GUEST}
    END

Each Channel Transfers Every Byte In Both Directions
    [Documentation]    All 256 byte values come out of the guest unchanged. Text goes in unchanged, by the guest's
    ...    checksum.
    FOR    ${channel}    IN    @{CHANNELS}
        Use Guest Channel    ${GUEST}    ${channel}
        Every Byte Should Come Out Of The Guest
        Text Should Go Into The Guest    ${TEXT}
    END

Each Channel Reports How A Command Ended
    [Documentation]    The results are an exit status, a signal, and a program that does not exist.
    FOR    ${channel}    IN    @{CHANNELS}
        Use Guest Channel    ${GUEST}    ${channel}
        Exit Status And Both Outputs Should Come Out Of The Guest
        Signal Should Be Reported
        Run In Guest    ${GUEST}    no-such-program    expected_status=127
    END

Each Channel Ends A Command At Its Timeout
    [Documentation]    The agent sees that the command and its child have ended. The channel still works.
    FOR    ${channel}    IN    @{CHANNELS}
        Use Guest Channel    ${GUEST}    ${channel}
        Run Keyword And Expect Error    *did not end within 3 s and was ended*    Run Two Processes That Sleep
        Run In Guest    ${GUEST}    true
        Use Guest Channel    ${GUEST}    agent
        No Process Of The Guest Should Sleep
    END

The Host Finds A Pattern Written Through Each Channel
    [Documentation]    The guest writes and flushes the pattern. The host reads the bytes in the namespace.
    FOR    ${channel}    IN    @{CHANNELS}
        Use Guest Channel    ${GUEST}    ${channel}
        Write Pattern In Guest    ${GUEST}    seed=by ${channel}    length=${LENGTH}
        Host Should Hold Guest Pattern    ${GUEST}    ${NAMESPACE}    seed=by ${channel}    length=${LENGTH}
    END

A Reboot Waits For The Selected Channel
    [Documentation]    The reboot ends when a new boot answers on the serial console. The agent then reports the same
    ...    boot id.
    Use Guest Channel    ${GUEST}    serial
    Reboot Guest    ${GUEST}    timeout=5 minutes
    Get Guest Channel    ${GUEST}    ==    serial
    ${boot} =    Get Guest Boot Id    ${GUEST}    !=    ${KNOWN_BOOT}
    Use Guest Channel    ${GUEST}    agent
    Get Guest Boot Id    ${GUEST}    ==    ${boot}


*** Keywords ***
Boot A Guest With A Network
    [Documentation]    Boot a guest on one namespace, on the host's bridge for guests. Save the agent's answers.
    Take A Fitting Host Or Skip    mapping    labels
    Skip Unless Guests Have A Network
    ${namespace} =    Create Devdax Namespace    64MiB    channels
    ${guest} =    Start New Guest    vpmem=${namespace}    network=True    timeout=5 minutes
    VAR    ${NAMESPACE} =    ${namespace}    scope=SUITE
    VAR    ${GUEST} =    ${guest}    scope=SUITE
    Save The Agent's Answers

Skip Unless Guests Have A Network
    [Documentation]    Skip unless the hosts file names a bridge for guests. The lab has a bridge.
    ${entry} =    Get Entry Of The Host
    IF    not $entry.guest_bridge
        Skip
        ...    guest_bridge of [${entry.name}] is not set: name a bridge of the host, and run an SSH server in the guest
    END

Every Byte Should Come Out Of The Guest
    [Documentation]    Fail unless the output of a command in the guest has all 256 byte values in their order.
    ${script} =    OperatingSystem.Get File    ${CURDIR}/../resources/scripts/print_every_byte.sh
    ${result} =    Run In Guest    ${GUEST}    sh    -c    ${script}
    Should Be Equal    ${result.stdout}    ${{bytes(range(256))}}

Text Should Go Into The Guest
    [Documentation]    Fail unless the guest's checksum of its standard input is that of the text.
    [Arguments]    ${text}
    ${expected} =    Evaluate    hashlib.sha256($text.encode()).hexdigest()    modules=hashlib
    ${result} =    Run In Guest    ${GUEST}    sha256sum    stdin=${text}
    Should Start With    ${result.text}    ${expected}

Exit Status And Both Outputs Should Come Out Of The Guest
    [Documentation]    Fail unless a command's standard output, standard error and exit status are reported.
    ${result} =    Run In Guest    ${GUEST}    sh    -c    echo out; echo err >&2; exit 7    expected_status=7
    Should Be Equal    ${result.text} ${result.error_text}    out\n err\n

Signal Should Be Reported
    [Documentation]    Fail unless the signal that ends a command is reported.
    Run In Guest    ${GUEST}    sh    -c    kill -TERM $$    expected_status=-15

Run Two Processes That Sleep
    [Documentation]    Run a command in the guest that sleeps, and has a child that sleeps too.
    Run In Guest    ${GUEST}    sh    -c    sleep 4321 & sleep 4321    timeout=3 seconds

No Process Of The Guest Should Sleep
    [Documentation]    Fail if a process of `Run Two Processes That Sleep` is there.
    ${running} =    Run Script In Guest    ${GUEST}    print_command_lines.sh
    Should Not Contain    ${running}    4321

Save The Agent's Answers
    [Documentation]    Save the boot id, the regions with their namespaces, and the map of physical addresses.
    ${boot} =    Get Guest Boot Id    ${GUEST}
    VAR    ${KNOWN_BOOT} =    ${boot}    scope=SUITE
    ${regions} =    Get Guest Regions    ${GUEST}
    VAR    ${KNOWN_REGIONS} =    ${regions}    scope=SUITE
    ${map} =    Run In Guest    ${GUEST}    cat    /proc/iomem
    VAR    ${KNOWN_MAP} =    ${map.text}    scope=SUITE
