*** Settings ***
Documentation     Errors and SMART values are injected, found by every view, and fixed.
...
...               Injection needs a bus of the kernel's nfit_test module. The suite uses the host's own bus, or a guest
...               whose kernel has the module. A guest is a host too, so all keywords are the same.

Resource          ../resources/guest.resource

Suite Setup       Open A Host With A Test Bus
Suite Teardown    Give The Host Back
Test Setup        Switch Host    ${INJECTED}
Test Teardown     Clean Up Host


*** Variables ***
${MONITOR}        /run/vpmem-monitor
${NO_TEST_BUS}
...               SEPARATOR=${SPACE}
...               This host has no bus of the kernel's nfit_test module, which takes injections, and its section of the
...               hosts file names no guest_nfit_test_initrd. Fix: build tools/testing/nvdimm of the kernel's source
...               into an initramfs for guests, or load it on the host (modprobe nfit_test).


*** Test Cases ***
The Health Of Every DIMM Of A Test Bus Matches The Kernel
    [Documentation]    This bus reports values that are absent on QEMU's bus: temperature, spares, the last shutdown and
    ...    its count. It also reports the flags of failed modules.
    [Tags]    hl-04
    ${healths} =    Get Dimm Health
    FOR    ${health}    IN    @{healths}
        IF    $health.flags or $health.dev == $DIMM
            Dimm Health Views Should Agree    ${health.dev}
        END
    END
    ${health} =    Get Dimm Health    ${DIMM}
    Should Be Equal    ${health.shutdown_state}    clean
    Kernel Should Have    /sys/bus/nd/devices/${DIMM}/nfit/dirty_shutdown    ${health.dirty_shutdown_count}
    Get Dirty Shutdown Count    ${DIMM}    ==    ${health.dirty_shutdown_count}
    Flags Should Be Reported    ${healths}
    ...    failed_save    failed_restore    failed_flush    failed_arm    failed_map    smart_event

Bad Blocks Are Listed, Fail To Be Read And Are Fixed By A Write
    [Documentation]    ndctl and the kernel list the bad blocks where they were injected. All bytes before them can be
    ...    read.
    [Tags]    hl-01
    ${namespace} =    Create Namespace    ${REGION}    mode=raw    size=at least 16MiB    name=hurt
    Write Pattern    ${namespace}    seed=hurt    length=4MiB
    Inject Error    ${namespace}    offset=1MiB    length=4KiB
    One Piece Should Be Bad    ${namespace}    sector=2048    count=8
    Run Keyword And Expect Error    *Input/output error*
    ...    Pattern Should Be Intact    ${namespace}    seed=hurt    length=4MiB
    Pattern Should Be Intact    ${namespace}    seed=hurt    length=1MiB
    Write Pattern    ${namespace}    seed=hurt    length=4MiB
    Nothing Should Be Bad    ${namespace}
    Pattern Should Be Intact    ${namespace}    seed=hurt    length=4MiB

Bad Blocks Are Cleared Without A Write
    [Documentation]    ndctl clears them in a namespace with metadata. Offsets count from the first usable byte.
    [Tags]    hl-01
    ${namespace} =    Create Namespace    ${REGION}    mode=fsdax    size=at least 16MiB    name=cleared
    Write Pattern    ${namespace}    seed=cleared    length=2MiB
    Inject Error    ${namespace}    offset=2MiB    length=8KiB
    One Piece Should Be Bad    ${namespace}    sector=4096    count=16
    Clear Errors    ${namespace}
    Nothing Should Be Bad    ${namespace}
    Pattern Should Be Intact    ${namespace}    seed=cleared    length=2MiB

A Scrub Finds An Error That The Kernel Does Not Know
    [Documentation]    An error without a notification from the bus is not a bad block until a scrub.
    [Tags]    hl-01
    ${namespace} =    Create Namespace    ${REGION}    mode=raw    size=at least 16MiB    name=scrubbed
    Run On Host    ndctl    inject-error    --no-notify    --block=64    --count=8    ${namespace.dev}
    Get Bad Blocks    ${namespace}    ==    0
    Start Scrub    ${namespace.bus}
    Wait For Scrub    ${namespace.bus}    timeout=2 minutes
    Get Scrub State    ${namespace.bus}    ==    idle
    One Piece Should Be Bad    ${namespace}    sector=64    count=8
    Write Pattern    ${namespace}    seed=scrubbed    length=64KiB
    Nothing Should Be Bad    ${namespace}

An Error That Is Taken Back Stays A Bad Block Until A Write
    [Documentation]    The bus no longer has the error. The kernel still refuses to read there.
    [Tags]    hl-01
    ${namespace} =    Create Namespace    ${REGION}    mode=raw    size=at least 16MiB    name=taken-back
    Inject Error    ${namespace}    offset=0    length=512
    Bus Should Have Injected    ${namespace}    block=0    count=1
    Uninject Error    ${namespace}    offset=0    length=512
    Bus Should Have No Injection    ${namespace}
    One Piece Should Be Bad    ${namespace}    sector=0    count=1
    Write Pattern    ${namespace}    seed=taken back    length=4KiB
    Nothing Should Be Bad    ${namespace}
    Pattern Should Be Intact    ${namespace}    seed=taken back    length=4KiB

Injected SMART Values Are Read Back
    [Documentation]    The DIMM reports each injected value, and its own values afterwards. The other DIMMs keep their
    ...    values.
    [Tags]    hl-02
    ${before} =    Get Dimm Health
    ${own} =    Get Dimm Health    ${DIMM}
    ${health} =    Inject Smart    ${DIMM}    temperature=90    spares=1    fatal=True    unsafe_shutdown=True
    SMART Should Be    health=${health}    temperature=90    spares=1    state=fatal    shutdown=dirty
    Count Should Be One Higher    ${health.shutdown_count}    ${own.shutdown_count}
    Others Should Be As Before    ${before}
    ${health} =    Uninject Smart    ${DIMM}
    SMART Should Be
    ...    health=${health}
    ...    temperature=${own.temperature}
    ...    spares=${own.spares}
    ...    state=${own.health_state}
    ...    shutdown=${own.shutdown_state}
    [Teardown]    Uninject Smart    ${DIMM}

A Value Beyond Its Threshold Raises The Alarm
    [Documentation]    The kernel notifies `ndctl monitor` of the value beyond its threshold, but not of a value below
    ...    it.
    [Tags]    hl-02
    ${own} =    Get Dimm Health    ${DIMM}
    VAR    ${threshold} =    ${own.values['temperature_threshold']}
    Start The Monitor Of The DIMM
    Inject Temperature    below=${threshold}
    ${health} =    Inject Temperature    above=${threshold}
    Should Contain    ${health.alarms}    temperature
    ${temperatures} =    Wait Until Keyword Succeeds    1 minute    0.2s    Monitor Should Have Reported    2
    Should Be Equal As Numbers    ${temperatures}[0]    ${own.temperature}
    Should Be Equal As Numbers    ${temperatures}[1]    ${health.temperature}
    [Teardown]    Stop The Monitor Of The DIMM


*** Keywords ***
Open A Host With A Test Bus
    [Documentation]    Open the taken host if it has such a bus, otherwise a guest with such a bus. The bus's largest
    ...    region has labels.
    Take A Host
    ${aliases} =    Get Open Hosts
    VAR    ${INJECTED} =    ${aliases}[0]    scope=SUITE
    ${bus_region} =    Find A Test Region
    IF    $bus_region is None
        ${bus_region} =    Boot A Guest With A Test Bus    ${aliases}[0]
    END
    Should Not Be Equal    ${bus_region}    ${None}    The guest came up without a bus of nfit_test.
    IF    not $bus_region.free_extent    Initialize Labels    ${bus_region.dev}
    VAR    ${REGION} =    ${bus_region.dev}    scope=SUITE
    VAR    ${DIMM} =    ${bus_region.dimms}[0]    scope=SUITE

Boot A Guest With A Test Bus
    [Documentation]    Boot a guest with the module, open it as a host, and return the largest region of its bus.
    [Arguments]    ${host}
    ${entry} =    Get Host Entry    ${HOSTS}    ${host}
    Skip If    not $entry.guest_nfit_test_initrd    ${NO_TEST_BUS}
    Set Guest Image
    ...    kernel=${entry.guest_kernel}
    ...    initrd=${entry.guest_nfit_test_initrd}
    ...    cmdline=${entry.guest_cmdline}
    # The modules of the bus use 300 MiB of the guest's own memory.
    ${guest} =    Start New Guest    memory=768MiB
    Open Guest As Host    ${guest}    alias=inside
    VAR    ${INJECTED} =    inside    scope=SUITE
    ${region} =    Find A Test Region
    RETURN    ${region}

Find A Test Region
    [Documentation]    Return the largest region of the kernel's nfit_test module that has DIMMs, or None.
    ${regions} =    Get Regions    provider=nfit_test*    on_dimms=True
    RETURN    ${{max($regions, key=lambda each: each.size, default=None)}}

Flags Should Be Reported
    [Documentation]    Fail unless each of these flags is reported for a DIMM.
    [Arguments]    ${healths}    @{flags}
    VAR    @{reported} =    @{EMPTY}
    FOR    ${health}    IN    @{healths}
        VAR    @{reported} =    @{reported}    @{health.flags}
    END
    Should Contain All    ${reported}    @{flags}

Count Should Be One Higher
    [Documentation]    Fail unless a count is one higher than before.
    [Arguments]    ${count}    ${before}
    Should Be Equal As Integers    ${count}    ${{int($before) + 1}}

Inject Temperature
    [Documentation]    Inject a temperature that is one degree below or above a threshold, and return the DIMM's health.
    [Arguments]    ${below}=${None}    ${above}=${None}
    ${health} =    Inject Smart    ${DIMM}    temperature=${{$below - 1 if $below is not None else $above + 1}}
    RETURN    ${health}

One Piece Should Be Bad
    [Documentation]    Fail unless a namespace has exactly one bad range, in sectors of 512 bytes. Check the library's
    ...    bad blocks, the kernel's own list for the block device, and a read.
    [Arguments]    ${namespace}    ${sector}    ${count}
    ${bad} =    Get Bad Blocks    ${namespace}
    Length Should Be    ${bad}    1
    ${offset} =    Multiply Size    512    ${sector}
    ${length} =    Multiply Size    512    ${count}
    Should Be Equal    ${bad[0].offset}    ${offset}
    Should Be Equal    ${bad[0].length}    ${length}
    Kernel Should Have    /sys/block/${namespace.blockdev}/badblocks    ${sector} ${count}
    ${read} =    Read Sectors    namespace=${namespace}    sector=${sector}    count=${count}
    Should Be Equal As Integers    ${read.exit_status}    1
    Should Contain    ${read.error_text}    Input/output error

Bus Should Have Injected
    [Documentation]    Compare the errors that a bus itself has for a namespace with the expected errors.
    [Arguments]    ${namespace}    ${block}    ${count}
    ${text} =    Get Output Of Host    ndctl    inject-error    --status    ${namespace.dev}
    ${status} =    Read Json    ${text}
    Length Should Be    ${status}[badblocks]    1
    Should Be Equal As Integers    ${status}[badblocks][0][block]    ${block}
    Should Be Equal As Integers    ${status}[badblocks][0][count]    ${count}

Bus Should Have No Injection
    [Documentation]    Fail if a bus itself has an error for a namespace.
    [Arguments]    ${namespace}
    ${text} =    Get Output Of Host    ndctl    inject-error    --status    ${namespace.dev}
    # ndctl prints nothing if there is no error.
    IF    $text
        ${status} =    Read Json    ${text}
        Should Be Empty    ${status}[badblocks]
    END

Nothing Should Be Bad
    [Documentation]    Fail unless a namespace has no bad block in each of these views, and every sector can be read.
    [Arguments]    ${namespace}
    Get Bad Blocks    ${namespace}    ==    0
    Kernel Should Have    /sys/block/${namespace.blockdev}/badblocks    ${EMPTY}
    ${read} =    Read Sectors    namespace=${namespace}    sector=0    count=${{$namespace.size // 512}}
    Should Be Equal As Integers    ${read.exit_status}    0    ${read.error_text}

Read Sectors
    [Documentation]    Read from a namespace's block device, bypass the page cache, and return the result.
    [Arguments]    ${namespace}    ${sector}    ${count}
    ${read} =    Run On Host    dd    if\=/dev/${namespace.blockdev}    of\=/dev/null    bs\=64K
    ...    iflag\=direct,skip_bytes,count_bytes    skip\=${{int($sector) * 512}}    count\=${{int($count) * 512}}
    ...    expected_status=${None}
    RETURN    ${read}

SMART Should Be
    [Documentation]    Compare the values of a DIMM that can be injected.
    [Arguments]    ${health}    ${temperature}    ${spares}    ${state}    ${shutdown}
    Should Be Equal As Numbers    ${health.temperature}    ${temperature}
    Should Be Equal As Integers    ${health.spares}    ${spares}
    Should Be Equal    ${health.health_state}    ${state}
    Should Be Equal    ${health.shutdown_state}    ${shutdown}

Others Should Be As Before
    [Documentation]    Fail unless the health of all DIMMs except the injected DIMM matches the given records.
    [Arguments]    ${before}
    ${after} =    Get Dimm Health
    FOR    ${one}    ${other}    IN ZIP    ${before}    ${after}    mode=STRICT
        IF    $one.dev != $DIMM    Should Be Equal    ${one}    ${other}
    END

Start The Monitor Of The DIMM
    [Documentation]    Start ndctl to write each alarm of the DIMM as a line of JSON. Wait until it watches: it first
    ...    reports the current values.
    Run On Host    mkdir    ${MONITOR}
    ${pid} =    Run Script On Host    start_in_background.sh    ${MONITOR}/out
    ...    ndctl    monitor    --log\=${MONITOR}/log    --dimm\=${DIMM}    --dimm-event\=all
    VAR    ${MONITOR_PID} =    ${pid}    scope=SUITE
    Wait Until Keyword Succeeds    1 minute    0.2s    Monitor Should Have Reported    1

Stop The Monitor Of The DIMM
    [Documentation]    End the monitor, and restore the DIMM's own values.
    Uninject Smart    ${DIMM}
    Run On Host    kill    ${MONITOR_PID}
    Run On Host    rm    -r    ${MONITOR}

Monitor Should Have Reported
    [Documentation]    Fail while the monitor has reported fewer events. Return the temperature in each event.
    [Arguments]    ${count}
    ${log} =    Get Output Of Host    cat    ${MONITOR}/log
    ${events} =    Read Json Lines    ${log}
    Should Be True    len($events) >= ${count}    The monitor reported fewer than ${count} events: ${log}
    VAR    @{temperatures} =    @{EMPTY}
    FOR    ${event}    IN    @{events}
        VAR    @{temperatures} =    @{temperatures}    ${event}[dimm][health][temperature_celsius]
    END
    RETURN    ${temperatures}
