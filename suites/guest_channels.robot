*** Settings ***
Documentation     The agent, SSH and the serial console give the same answers about one guest.
...
...               One guest with one device and a network is booted once and shared by the tests. The answers of each
...               channel are compared with the agent's answers and with the host.

Resource          ../resources/guest.resource

Suite Setup       Boot A Guest With A Network
Suite Teardown    Give The Host Back

Test Tags         gb-05


*** Variables ***
@{CHANNELS}      agent    ssh    serial
&{SERVERS}       agent=qemu-ga    ssh=dropbear    serial=serve
${RUN_BY}        tr '\\0' ' ' </proc/$PPID/cmdline
@{OCTAL}         0    1    2    3    4    5    6    7
${EVERY_BYTE}    for a in 0 1 2 3; do for b in "$@"; do for c; do printf "\\\\$a$b$c"; done; done; done
${LENGTH}        1MiB


*** Test Cases ***
Each Channel Reaches The Same Boot By A Different Program
    [Documentation]    A different program runs the commands of each channel. The kernel's boot id is the same.
    FOR    ${channel}    IN    @{CHANNELS}
        Use Guest Channel    ${GUEST}    ${channel}
        ${parent} =    Run In Guest    ${GUEST}    sh    -c    ${RUN_BY}
        Should Contain    ${parent.text}    ${SERVERS}[${channel}]
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
    ${text_sum} =    Evaluate    hashlib.sha256('é\\t"$(x)\\n'.encode()).hexdigest()    modules=hashlib
    FOR    ${channel}    IN    @{CHANNELS}
        Use Guest Channel    ${GUEST}    ${channel}
        ${bytes} =    Run In Guest    ${GUEST}    sh    -c    ${EVERY_BYTE}    sh    @{OCTAL}
        Should Be Equal    ${bytes.stdout}    ${{bytes(range(256))}}
        ${text} =    Run In Guest    ${GUEST}    sha256sum    stdin=é\t"$(x)\n
        Should Start With    ${text.text}    ${text_sum}
    END

Each Channel Reports How A Command Ended
    [Documentation]    The results are an exit status, a signal, and a program that does not exist.
    FOR    ${channel}    IN    @{CHANNELS}
        Use Guest Channel    ${GUEST}    ${channel}
        ${result} =    Run In Guest    ${GUEST}    sh    -c    echo out; echo err >&2; exit 7    expected_status=7
        Should Be Equal    ${result.text} ${result.error_text}    out\n err\n
        Run In Guest    ${GUEST}    sh    -c    kill -TERM $$    expected_status=-15
        Run In Guest    ${GUEST}    no-such-program    expected_status=127
    END

Each Channel Ends A Command At Its Timeout
    [Documentation]    The agent sees that the command and its child have ended. The channel still works.
    FOR    ${channel}    IN    @{CHANNELS}
        Use Guest Channel    ${GUEST}    ${channel}
        Run Keyword And Expect Error    *did not end within 3 s and was ended*
        ...    Run In Guest    ${GUEST}    sh    -c    sleep 4321 & sleep 4321    timeout=3 seconds
        Run In Guest    ${GUEST}    true
        Use Guest Channel    ${GUEST}    agent
        ${running} =    Run In Guest    ${GUEST}    sh    -c    cat /proc/[0-9]*/cmdline 2>&1; true
        Should Not Contain    ${running.text}    4321
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
    Take A Host
    Skip Unless Guests Have A Network
    ${namespace} =    Create Devdax Namespace    64MiB    channels
    ${guest} =    Start New Guest    vpmem=${namespace}    network=True    timeout=5 minutes
    VAR    ${NAMESPACE} =    ${namespace}    scope=SUITE
    VAR    ${GUEST} =    ${guest}    scope=SUITE
    Keep What The Agent Says

Skip Unless Guests Have A Network
    [Documentation]    Skip unless the hosts file names a bridge for guests. The lab has a bridge.
    ${host} =    Get Open Hosts
    ${entry} =    Get Host Entry    ${HOSTS}    ${host}[0]
    IF    not $entry.guest_bridge
        Skip    guest_bridge of [${host}[0]] is not set: name a bridge of the host, and run an SSH server in the guest
    END

Keep What The Agent Says
    [Documentation]    Save the boot id, the regions with their namespaces, and the map of physical addresses.
    ${boot} =    Get Guest Boot Id    ${GUEST}
    VAR    ${KNOWN_BOOT} =    ${boot}    scope=SUITE
    ${regions} =    Get Guest Regions    ${GUEST}
    VAR    ${KNOWN_REGIONS} =    ${regions}    scope=SUITE
    ${map} =    Run In Guest    ${GUEST}    cat    /proc/iomem
    VAR    ${KNOWN_MAP} =    ${map.text}    scope=SUITE
