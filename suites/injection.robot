*** Settings ***
Documentation     Errors and SMART values are injected, found by every view, and fixed.
...
...               Injection needs a test bus, a bus of the kernel's nfit_test module.

Resource          ../resources/test_bus.resource

Suite Setup       Take A Host With A Test Bus
Suite Teardown    Give The Host And Its Own Bus Back
Test Teardown     Clean Up Host


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
    [Documentation]    ndctl clears bad blocks in a namespace with metadata. Offsets count from the first usable byte.
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
    [Tags]    hl-01    sb-01
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
    [Documentation]    `ndctl monitor` reports the value beyond its threshold, but not the value below it.
    [Tags]    hl-02    mo-01
    ${own} =    Get Dimm Health    ${DIMM}
    VAR    ${threshold} =    ${own.values}[temperature_threshold]
    ${monitor} =    Start Dimm Monitor    ${DIMM}
    Inject Temperature    below=${threshold}
    ${health} =    Inject Temperature    above=${threshold}
    Should Contain    ${health.alarms}    temperature
    ${event} =    Wait For Dimm Event    ${monitor}    ${DIMM}    media_temperature
    Should Be Equal As Numbers    ${event.health}[temperature_celsius]    ${health.temperature}
    [Teardown]    Run Keywords    Stop Dimm Monitor    ${monitor}    AND    Uninject Smart    ${DIMM}

A Dirty Shutdown Is Reported With Its DIMM
    [Documentation]    The monitor watches all DIMMs of the region. Only the injected DIMM has the event.
    [Tags]    mo-01
    ${region} =    Get Region    ${REGION}
    ${monitor} =    Start Dimm Monitor    @{region.dimms}
    Inject Smart    ${DIMM}    unsafe_shutdown=True
    ${event} =    Wait For Dimm Event    ${monitor}    ${DIMM}    unclean_shutdown
    Should Be Equal    ${event.dimm}    ${DIMM}
    Run Keyword And Expect Error    *reported no dimm-unclean-shutdown of ${region.dimms}[-1]*
    ...    Wait For Dimm Event    ${monitor}    ${region.dimms}[-1]    unclean_shutdown    timeout=1s
    [Teardown]    Run Keywords    Stop Dimm Monitor    ${monitor}    AND    Uninject Smart    ${DIMM}

A Scrub That Does Not End In Time Is Reported
    [Documentation]    The wait fails at its deadline, and the scrub ends later. A second start meanwhile is no error.
    ...    The test bus scrubs for two seconds, so the wait comes first.
    [Tags]    sb-02
    Start Scrub    ${BUS}
    Run Keyword And Expect Error    *did not end within 0.1 s*    Wait For Scrub    ${BUS}    timeout=0.1s
    Start Scrub    ${BUS}
    Wait For Scrub    ${BUS}    timeout=2 minutes
    Get Scrub State    ${BUS}    ==    idle


*** Keywords ***
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
