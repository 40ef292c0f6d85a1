*** Settings ***
Documentation     What a guest flushed is there after QEMU was killed and after the host lost its power, in order, to
...               the last record that the guest told of.
...
...               A guest is booted once and saved; every kill ends another run of it from that moment. Its devices lie
...               on emulated NVDIMMs, which keep what was stored, flushed or not: a store without a flush of the
...               processor's caches cannot be told here. What a page cache holds can: the guest's is gone with QEMU,
...               the host's with its power.

Library           Process
Resource          ../resources/guest.resource

Suite Setup       Boot A Guest And Save It
Suite Teardown    Remove The Saved Guest And Give The Host Back


*** Variables ***
${KILLS}           20
${MAPPED_KILLS}    3
${SEED}            crash
${MOMENT}          /var/tmp/vpmem-crash-${{secrets.token_hex(4)}}
${PLAIN}           /var/tmp/vpmem-plain-${{secrets.token_hex(4)}}


*** Test Cases ***
A Flushed Pattern Outlives QEMU
    [Documentation]    QEMU is killed as soon as the guest has flushed: the host finds every byte.
    [Tags]    cr-01
    Go On From The Saved Moment
    Write Pattern In Guest    ${GUEST}    ${NAMESPACE}    seed=flushed    length=8MiB
    Kill Guest    ${GUEST}
    Host Should Hold Guest Pattern    ${GUEST}    ${NAMESPACE}    seed=flushed    length=8MiB

Every Acknowledged Record Outlives A Kill
    [Documentation]    QEMU is killed at a random moment, again and again, while the guest writes.
    [Tags]    cr-02
    FOR    ${kill}    IN RANGE    ${KILLS}
        Kill The Guest While It Writes    ${SEED}-${kill}    flush=True
        ${verdict} =    Acknowledged Records Should Be There    ${WRITER}
        Should Be True    0 < len($verdict.acknowledged) < 4096    The writer was not at work when QEMU was killed.
    END

Every Record That Was Stored Through A Mapping Outlives A Kill
    [Documentation]    The guest's program flushes by the processor's instructions, without a system call.
    [Tags]    cr-02
    FOR    ${kill}    IN RANGE    ${MAPPED_KILLS}
        Kill The Guest While It Writes    mapped-${SEED}-${kill}    flush=True    device=${MAPPED}
        ${verdict} =    Acknowledged Records Should Be There    ${WRITER}
        Should Be True    0 < len($verdict.acknowledged) < 4096    The writer was not at work when QEMU was killed.
    END

A Writer That Does Not Flush Is Found Out
    [Documentation]    Its records were in the guest's page cache, and QEMU took it along.
    [Tags]    cr-02
    Kill The Guest While It Writes    unflushed    flush=False
    Run Keyword And Expect Error    *acknowledged and not there*
    ...    Acknowledged Records Should Be There    ${WRITER}

Every Acknowledged Record Outlives The Host's Power
    [Documentation]    The host's power is cut while the guest writes to its NVDIMM and to a file of the host: what it
    ...    had told of is in the NVDIMM, and missing in the file, which the host's page cache held, as predicted.
    [Tags]    cr-03    rc-01
    The Host's Power Should Be In Our Hands
    ${boot} =    Get Host Boot Id
    Have Two Writers At Work
    Cut Host Power
    What The Run Has Should Be Nobody Else's While The Host Boots
    Restore Host Power
    Host Should Have Booted Since    ${boot}
    Acknowledged Records Should Be There    ${WRITER}
    The Records On The File Should Be Lost As Predicted


*** Keywords ***
Boot A Guest And Save It
    [Documentation]    A guest on two namespaces and a file of the host, with device DAX made in the second one, saved
    ...    to a file that every test goes on from.
    Take A Host
    Describe The Devices
    # The first device's region begins where ndctl wants it to.
    ${guest} =    Start New Guest    vpmem=${{[$MAPPED, $NAMESPACE, $ON_FILE]}}
    VAR    ${GUEST} =    ${guest}    scope=SUITE
    Make Device DAX In The Guest
    Save Guest To File    ${GUEST}    ${MOMENT}

Describe The Devices
    [Documentation]    One on a namespace, one on a file, and one whose region in the guest is a multiple of 16 MiB, as
    ...    its ndctl wants it for device DAX.
    ${namespace} =    Create Devdax Namespace    64MiB    crash
    VAR    ${NAMESPACE} =    ${namespace}    scope=SUITE
    Run On Host    fallocate    -l    18MiB    ${PLAIN}
    Run On Host    sync    ${PLAIN}
    ${device} =    New Vpmem Device    ${PLAIN}    size=18MiB
    VAR    ${ON_FILE} =    ${device}    scope=SUITE
    ${another} =    Create Devdax Namespace    48MiB    mapped
    # An earlier guest's labels may lie there.
    Wipe Content    ${another}
    ${mapped} =    New Vpmem Device    ${another}    size=34MiB    label_size=128KiB
    VAR    ${MAPPED} =    ${mapped}    scope=SUITE

Make Device DAX In The Guest
    [Documentation]    Labels and a devdax namespace in the device, made by the guest's own kernel and tools.
    ${aliases} =    Get Open Hosts
    Open Guest As Host    ${GUEST}    alias=inside
    ${regions} =    Get Regions
    ${region} =    Evaluate    next(each for each in $regions if each.size == 32 * 1024 * 1024)
    Initialize Labels    ${region}
    Create Namespace    ${region}    mode=devdax    map=mem    name=mapped
    Close Host    inside
    Switch Host    ${aliases}[0]

Go On From The Saved Moment
    [Documentation]    The guest's memory and the bytes of its devices are as they were saved.
    Restore Guest From File    ${GUEST}    ${MOMENT}

Kill The Guest While It Writes
    [Documentation]    One run of the guest from the saved moment to its end by a kill; leaves the writer.
    [Arguments]    ${seed}    ${flush}    ${device}=${NAMESPACE}
    Go On From The Saved Moment
    ${writer} =    Start Record Writer    ${GUEST}    ${device}    seed=${seed}    flush=${flush}
    Kill Guest While Writing    ${writer}    seed=${seed}    within=1s
    VAR    ${WRITER} =    ${writer}    scope=SUITE

Have Two Writers At Work
    [Documentation]    One on the namespace, one on the file; the host writes nothing back by itself meanwhile.
    Run On Host    sysctl    -q    -w    vm.dirty_writeback_centisecs\=0
    Go On From The Saved Moment
    ${durable} =    Start Record Writer    ${GUEST}    ${NAMESPACE}    seed=on the NVDIMM
    ${lost} =    Start Record Writer    ${GUEST}    ${ON_FILE}    seed=on the file
    Wait For Acknowledged Records    ${durable}    30
    Wait For Acknowledged Records    ${lost}    30
    VAR    ${WRITER} =    ${durable}    scope=SUITE
    VAR    ${FILE_WRITER} =    ${lost}    scope=SUITE

The Host's Power Should Be In Our Hands
    [Documentation]    Skips where the hosts file does not say how the host's power is cut.
    ${aliases} =    Get Open Hosts
    ${entry} =    Get Host Entry    ${HOSTS}    ${aliases}[0]
    Skip If    not ($entry.may_reboot and $entry.power)
    ...    The power of ${entry.name} may not be cut: say host_may_reboot, host_power_off and host_power_on.

What The Run Has Should Be Nobody Else's While The Host Boots
    [Documentation]    It is given power as if by hand; whoever comes first gets neither the host nor what is on it.
    ${aliases} =    Get Open Hosts
    ${entry} =    Get Host Entry    ${HOSTS}    ${aliases}[0]
    ${on} =    Process.Run Process    @{entry.power.on}    timeout=10 minutes    stderr=STDOUT
    Should Be Equal As Integers    ${on.rc}    0    ${on.stdout}
    Open Host From File    ${HOSTS}    ${aliases}[0]    alias=other
    Run Keyword And Expect Error
    ...    Host other is kept until * for a worker that reboots the host: *
    ...    Hold Host
    ...    timeout=0s
    ${taken} =    Reclaim What Dead Runs Left
    Should Be Empty    ${taken}
    Close Host    other
    Switch Host    ${aliases}[0]

The Records On The File Should Be Lost As Predicted
    [Documentation]    All of them.
    ${predicted} =    Get Predicted Persistence    ${ON_FILE}
    Should Not Be True    ${predicted.power_loss}
    Run Keyword And Expect Error    *acknowledged and not there: 0 (absent)*
    ...    Acknowledged Records Should Be There    ${FILE_WRITER}

Host Should Have Booted Since
    [Documentation]    Its kernel's boot id is another one.
    [Arguments]    ${before}
    ${after} =    Get Host Boot Id
    Should Not Be Equal    ${after}    ${before}

Remove The Saved Guest And Give The Host Back
    [Documentation]    The files lie outside what is cleaned up by itself.
    TRY
        Run On Host    rm    -f    ${MOMENT}    ${PLAIN}
    FINALLY
        Give The Host Back
    END
