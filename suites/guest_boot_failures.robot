*** Settings ***
Documentation     A guest that never becomes ready fails within its timeout. The error has the last lines of its
...               console.
...
...               A guest that can never become ready fails at once. The library waits only for a guest that can still
...               become ready.

Library           DateTime
Resource          ../resources/guest.resource

Suite Setup       Take A Host With A Kernel For Guests Or Skip
Suite Teardown    Give The Host Back
Test Teardown     Clean Up Host

Test Tags         gb-06


*** Variables ***
${LONG}            10 minutes
${SHORT}           45 seconds
${SHORTEST}        10 seconds
${NO_KERNEL}       /var/lib/libvirt/boot/no-kernel
# Without an init in the initramfs the kernel looks for a root file system on a disk. There is no disk.
${NO_ROOT}         rdinit=/absent rootfstype=ext4
# The kernel's line before that panic: Linux 6.1 and Linux 6.12.
${BEFORE_PANIC}    (?:Can't open blockdev|List of all bdev)
# The kernel passes the words after the dashes to its init.
${HANGING}         rdinit=/bin/sh -- -c "echo This init hangs; exec cat"
${SLEEPING}        rdinit=/bin/sh -- -c "echo This init hangs; exec sleep 9999"


*** Test Cases ***
A Guest Without An Init Process Fails With Its Kernel's Panic
    [Documentation]    The kernel halts after the panic. The library does not wait until the timeout.
    ${message}    ${seconds} =    Start Should Fail    ${NO_ROOT} panic=0    ${LONG}
    Should Match Regexp    ${message}    panicked instead of being ready: Kernel panic - not syncing: VFS
    Should Match Regexp
    ...    ${message}
    ...    (?s)at the panic:.*${BEFORE_PANIC}.*Kernel panic - not syncing: VFS.*Call Trace
    Seconds Should Be Between    ${seconds}    at_least=0    below=300

A Guest In A Panic And Reboot Loop Fails With The Panic
    [Documentation]    The guest always appears to run. The library finds the panic in the console output since the
    ...    start.
    ${message}    ${seconds} =    Start Should Fail    ${NO_ROOT} panic=-1    ${LONG}
    Should Match Regexp    ${message}    panicked instead of being ready: Kernel panic - not syncing: VFS
    Should Match Regexp    ${message}    (?s)at the panic:.*${BEFORE_PANIC}.*Kernel panic - not syncing: VFS
    Seconds Should Be Between    ${seconds}    at_least=0    below=300

A Guest With A Hanging Init Process Fails At The Timeout
    [Documentation]    The guest could become ready at any time, so the library waits. The last console line says what
    ...    the guest does.
    ${message}    ${seconds} =    Start Should Fail    ${HANGING}    ${SHORT}
    Should Contain    ${message}    was not ready within 45 s: it is running
    Should Match Regexp    ${message}    (?s)console ends with:.*This init hangs
    ${console} =    Get Guest Console    never-ready    lines=1
    Should Be Equal    ${console}    This init hangs    strip_spaces=True
    Seconds Should Be Between    ${seconds}    at_least=45    below=165

A Hanging Guest On The Serial Console Fails At The Timeout
    [Documentation]    No shell answers on the serial console of a guest that hangs.
    Set Guest Access    serial
    ${message}    ${seconds} =    Start Should Fail    ${SLEEPING}    ${SHORT}
    Should Contain    ${message}    was not ready within 45 s: it is running
    Should Match Regexp    ${message}    (?s)console ends with:.*This init hangs
    Seconds Should Be Between    ${seconds}    at_least=45    below=165
    [Teardown]    Run Keywords    Clean Up Host    AND    Set Guest Access    agent

A Guest Without A Valid Kernel Fails With The QEMU Log
    [Documentation]    The console stays empty. The error says so and has the end of QEMU's log.
    Make A File That Is No Kernel
    ${message}    ${seconds} =    Start Should Fail
    ...    ${EMPTY}    ${SHORTEST}    kernel=${NO_KERNEL}    initrd=${EMPTY}
    Should Contain    ${message}    was not ready within 10 s: it is running
    Should Match Regexp    ${message}    console ends with:\\n +\\(it wrote nothing
    Should Match Regexp    ${message}    (?s)QEMU's log ends with:.*charserial0
    Seconds Should Be Between    ${seconds}    at_least=10    below=130
    [Teardown]    Run Keywords    Clean Up Host    AND    Run On Host    rm    -f    ${NO_KERNEL}

A Guest That QEMU Refuses Fails At Once With QEMU's Message
    [Documentation]    QEMU detects that the file that would load the initramfs is not a kernel.
    Make A File That Is No Kernel
    ${message}    ${seconds} =    Start Should Fail    ${EMPTY}    ${LONG}    kernel=${NO_KERNEL}
    Should Match Regexp    ${message}    could not start guest never-ready: .*qemu: linux kernel too old
    Seconds Should Be Between    ${seconds}    at_least=0    below=120
    [Teardown]    Run Keywords    Clean Up Host    AND    Run On Host    rm    -f    ${NO_KERNEL}


*** Keywords ***
Take A Host With A Kernel For Guests Or Skip
    [Documentation]    Take a host whose guests boot from a kernel, so that a test can set a wrong kernel command line.
    Take A Fitting Host Or Skip    mapping
    ${entry} =    Get Entry Of The Host
    IF    not $entry.guest_kernel
        Skip
        ...    guest_kernel of [${entry.name}] is not set: name a kernel on the host, which can be booted in a wrong way
    END
    VAR    ${ENTRY} =    ${entry}    scope=SUITE

Start Should Fail
    [Documentation]    Start a guest with a wrong command line. Return the message of the failure and the duration.
    [Arguments]    ${cmdline}    ${timeout}    ${kernel}=${ENTRY.guest_kernel}    ${initrd}=${ENTRY.guest_initrd}
    Set Guest Image    kernel=${kernel}    initrd=${initrd}    cmdline=${ENTRY.guest_cmdline} ${cmdline}
    ${guest} =    Define Guest    name=never-ready
    ${began} =    DateTime.Get Current Date
    ${message} =    Run Keyword And Expect Error    *uest never-ready*
    ...    Start Guest    ${guest}    timeout=${timeout}
    ${ended} =    DateTime.Get Current Date
    ${seconds} =    DateTime.Subtract Date From Date    ${ended}    ${began}
    RETURN    ${message}    ${seconds}

Seconds Should Be Between
    [Documentation]    Fail unless a start failed after at least this number of seconds, and before the limit.
    [Arguments]    ${seconds}    ${at_least}    ${below}
    Should Be True    ${at_least} <= ${seconds} < ${below}

Make A File That Is No Kernel
    [Documentation]    Create a file of 1 MiB of zeros where libvirt's QEMU may read it.
    Run On Host    dd    if\=/dev/zero    of\=${NO_KERNEL}    bs\=1M    count\=1    status\=none
    Run On Host    chmod    644    ${NO_KERNEL}
