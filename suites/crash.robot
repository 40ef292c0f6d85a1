*** Settings ***
Documentation     Flushed data of a guest survives a kill of QEMU and a power cut of the host. The records are in order,
...               up to the last record that the guest acknowledged.
...
...               A guest is booted once and saved. Each kill ends a new run of the guest from the saved state. The
...               guest's devices are backed by emulated NVDIMMs, which keep every store, flushed or not. So this suite
...               cannot detect a store without a flush of the processor's caches. It can detect data in a page cache:
...               the guest's page cache is lost with QEMU, and the host's page cache with its power.

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
A Flushed Pattern Survives A Kill Of QEMU
    [Documentation]    QEMU is killed as soon as the guest has flushed. The host finds every byte.
    [Tags]    cr-01
    Restore The Saved Guest
    Write Pattern In Guest    ${GUEST}    ${NAMESPACE}    seed=flushed    length=8MiB
    Stop Guest    ${GUEST}    how=kill
    Host Should Hold Guest Pattern    ${GUEST}    ${NAMESPACE}    seed=flushed    length=8MiB

Every Acknowledged Record Survives A Kill Of QEMU
    [Documentation]    QEMU is killed many times, each at a random moment while the guest writes.
    [Tags]    cr-02
    FOR    ${kill}    IN RANGE    ${KILLS}
        Kill The Guest While It Writes    ${SEED}-${kill}    flush=True
        ${verdict} =    Acknowledged Records Should Be There    ${WRITER}
        Writer Should Have Been At Work    ${verdict}
    END

Every Record Stored Through A Mapping Survives A Kill Of QEMU
    [Documentation]    The guest's program flushes with the processor's instructions, without a system call.
    [Tags]    cr-02
    FOR    ${kill}    IN RANGE    ${MAPPED_KILLS}
        Kill The Guest While It Writes    mapped-${SEED}-${kill}    flush=True    device=${MAPPED}
        ${verdict} =    Acknowledged Records Should Be There    ${WRITER}
        Writer Should Have Been At Work    ${verdict}
    END

A Writer That Does Not Flush Is Detected
    [Documentation]    The writer's records were in the guest's page cache, which is lost with QEMU. The guest's kernel
    ...    writes the first records back at once, because its limit for a device grows with what it has written there.
    [Tags]    cr-02
    Kill The Guest While It Writes    unflushed    flush=False    after=30
    Run Keyword And Expect Error    *acknowledged but missing*
    ...    Acknowledged Records Should Be There    ${WRITER}

Every Acknowledged Record Survives A Power Cut Of The Host
    [Documentation]    The host's power is cut while the guest writes to an NVDIMM and to a file of the host. The NVDIMM
    ...    has all acknowledged records. The file lost its records, as predicted, because they were in the host's page
    ...    cache.
    [Tags]    cr-03    rc-01
    Skip Unless The Host's Power May Be Cut
    ${boot} =    Get Host Boot Id
    Start Two Writers
    Cut Host Power
    No Other Worker Should Get The Host While It Boots
    Restore Host Power
    Host Should Have Booted Since    ${boot}
    Acknowledged Records Should Be There    ${WRITER}
    The Records On The File Should Be Lost As Predicted


*** Keywords ***
Boot A Guest And Save It
    [Documentation]    Boot a guest on two namespaces and a file of the host. Create device DAX in the second namespace.
    ...    Save the guest to a file from which every test restores it.
    Take A Fitting Host Or Skip    mapping    labels
    Describe The Devices
    # ndctl in the guest needs the first device's region at an aligned address, so this device comes first.
    VAR    @{devices} =    ${MAPPED}    ${NAMESPACE}    ${ON_FILE}
    ${guest} =    Start New Guest    vpmem=${devices}
    VAR    ${GUEST} =    ${guest}    scope=SUITE
    Make Device DAX In The Guest
    Save Guest    ${GUEST}    ${MOMENT}

Describe The Devices
    [Documentation]    Describe a device on a namespace, a device on a file, and a device whose region in the guest is a
    ...    multiple of 16 MiB. The guest's ndctl needs that multiple for device DAX.
    ${namespace} =    Create Devdax Namespace    64MiB    crash
    VAR    ${NAMESPACE} =    ${namespace}    scope=SUITE
    Run On Host    fallocate    -l    18MiB    ${PLAIN}
    Run On Host    sync    ${PLAIN}
    ${device} =    New Vpmem Device    ${PLAIN}    size=18MiB
    VAR    ${ON_FILE} =    ${device}    scope=SUITE
    ${another} =    Create Devdax Namespace    48MiB    mapped
    # The namespace may still contain labels of an earlier guest.
    Wipe Content    ${another}
    ${mapped} =    New Vpmem Device    ${another}    size=34MiB    label_size=128KiB
    VAR    ${MAPPED} =    ${mapped}    scope=SUITE

Make Device DAX In The Guest
    [Documentation]    Create labels and a devdax namespace in the device with the guest's own kernel and tools.
    ${aliases} =    Get Open Hosts
    Open Guest As Host    ${GUEST}    alias=inside
    ${regions} =    Get Regions    ==    1    size=32MiB
    Initialize Labels    ${regions}[0]
    Create Namespace    ${regions}[0]    mode=devdax    map=mem    name=mapped
    Close Host    inside
    Switch Host    ${aliases}[0]

Restore The Saved Guest
    [Documentation]    Restore the guest. Its memory and the bytes of its devices are as they were saved.
    Restore Guest From File    ${GUEST}    ${MOMENT}

Kill The Guest While It Writes
    [Documentation]    Restore the guest from the saved state, and kill it while it writes, after this number of
    ...    records. Set `${WRITER}` to the writer.
    [Arguments]    ${seed}    ${flush}    ${device}=${NAMESPACE}    ${after}=1
    Restore The Saved Guest
    ${writer} =    Start Record Writer    ${GUEST}    ${device}    seed=${seed}    flush=${flush}
    Wait For Acknowledged Records    ${writer}    ${after}
    Kill Guest While Writing    ${writer}    seed=${seed}    within=1s
    VAR    ${WRITER} =    ${writer}    scope=SUITE

Start Two Writers
    [Documentation]    Start a writer on the namespace and a writer on the file. The host's own writeback is off
    ...    meanwhile.
    Run On Host    sysctl    -q    -w    vm.dirty_writeback_centisecs\=0
    Restore The Saved Guest
    ${durable} =    Start Record Writer    ${GUEST}    ${NAMESPACE}    seed=on the NVDIMM
    ${lost} =    Start Record Writer    ${GUEST}    ${ON_FILE}    seed=on the file
    Wait For Acknowledged Records    ${durable}    30
    Wait For Acknowledged Records    ${lost}    30
    VAR    ${WRITER} =    ${durable}    scope=SUITE
    VAR    ${FILE_WRITER} =    ${lost}    scope=SUITE

Writer Should Have Been At Work
    [Documentation]    Fail unless the writer had written some of its records, but not all, when QEMU was killed.
    [Arguments]    ${verdict}
    Should Be True    0 < len($verdict.acknowledged) < 4096    The writer was not at work when QEMU was killed.

No Other Worker Should Get The Host While It Boots
    [Documentation]    Restore the power outside the library. Another user of the host can acquire neither the host nor
    ...    this run's leftovers.
    ${aliases} =    Get Open Hosts
    ${entry} =    Get Entry Of The Host
    ${on} =    Process.Run Process    @{entry.power.on}    timeout=10 minutes    stderr=STDOUT
    Should Be Equal As Integers    ${on.rc}    0    ${on.stdout}
    Open Host From File    ${HOSTS}    ${aliases}[0]    alias=other
    Run Keyword And Expect Error
    ...    Host other is kept until * for a worker that reboots the host: *
    ...    Reserve Host
    ...    timeout=0s
    ${removed} =    Clean Up After Dead Runs
    Should Be Empty    ${removed}
    Close Host    other
    Switch Host    ${aliases}[0]

The Records On The File Should Be Lost As Predicted
    [Documentation]    Fail unless all records on the file are lost.
    ${predicted} =    Get Predicted Persistence    ${ON_FILE}
    Should Not Be True    ${predicted.power_loss}
    Run Keyword And Expect Error    *acknowledged but missing: 0 (absent)*
    ...    Acknowledged Records Should Be There    ${FILE_WRITER}

Host Should Have Booted Since
    [Documentation]    Fail unless the kernel has a new boot id.
    [Arguments]    ${before}
    ${after} =    Get Host Boot Id
    Should Not Be Equal    ${after}    ${before}

Remove The Saved Guest And Give The Host Back
    [Documentation]    Remove the files explicitly, because the automatic cleanup does not cover their directory.
    TRY
        Run On Host    rm    -f    ${MOMENT}    ${PLAIN}
    FINALLY
        Give The Host Back
    END
