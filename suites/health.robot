*** Settings ***
Documentation     The health of DIMMs and their bad blocks, and the behaviour of a bus without injection.
...
...               A value that no DIMM reports is absent, never 0. Each value is compared with a separate reading of
...               sysfs.

Resource          ../resources/host.resource

Suite Setup       Take A Host
Suite Teardown    Give The Host Back
Test Teardown     Clean Up Host


*** Variables ***
${SYSFS}    /sys/bus/nd/devices


*** Test Cases ***
The Health Of Every DIMM Matches The Kernel
    [Documentation]    One table describes the host. Flags and dirty-shutdown counts match sysfs, and are None if sysfs
    ...    has none. The other fields agree in ndctl and sysfs.
    [Tags]    hl-04
    ${healths} =    Get Dimm Health
    ${dimms} =    Get Field Of Each    ${healths}    dev
    Kernel Should List Dimms    ${dimms}
    FOR    ${health}    IN    @{healths}
        Kernel Should Have Flags    ${health}
        Kernel Should Have    ${SYSFS}/${health.dev}/nfit/dirty_shutdown    ${health.dirty_shutdown}
        Dimm Health Views Should Agree    ${health.dev}
    END

A Count That Is Not Reported Is Absent And Not Zero
    [Documentation]    A DIMM has neither SMART nor a kernel count. The record has None, and a keyword for the count
    ...    fails.
    [Tags]    hl-04
    ${dimm} =    Choose A Silent DIMM Or Skip
    ${health} =    Get Dimm Health    ${dimm}
    Should Be Equal    ${health.dirty_shutdown_count}    ${None}
    Should Be Equal    ${health.health_state}    ${None}
    Row Of Health Should Be    ${health}    name=dirty shutdowns (kernel)    value=absent
    Run Keyword And Expect Error    The dirty-shutdown count of ${dimm} on * is absent*
    ...    Get Dirty Shutdown Count    ${dimm}    ==    0
    ${listed} =    Get Output Of Host    ndctl    list    --dimms    --health    --dimm    ${dimm}
    Should Not Contain    ${listed}    health
    Kernel Should Have    ${SYSFS}/${dimm}/nfit/dirty_shutdown    ${None}

A Bus Without Error Injection Refuses It And Nothing Changes
    [Documentation]    The error has ndctl's own refusal with its exit status and the name of the bus. Bad blocks and
    ...    bytes do not change.
    [Tags]    hl-03
    ${region} =    Choose A Region Without Injection Or Skip
    ${namespace} =    Create Namespace    ${region}    mode=devdax    size=at least 16MiB    name=unhurt
    Write Pattern    ${namespace}    seed=unhurt
    ${before} =    Read Bad Blocks Of The Kernel
    Run Keyword And Expect Error    *its bus (${region.provider}) does not support this injection*exit status: 161*
    ...    Inject Error    ${namespace}    offset=1MiB    length=4KiB
    Run Keyword And Expect Error    *its bus (${region.provider}) does not support this injection*exit status: 161*
    ...    Uninject Error    ${namespace}    offset=1MiB    length=4KiB
    ${after} =    Read Bad Blocks Of The Kernel
    Should Be Equal    ${after}    ${before}
    Get Bad Blocks    ${namespace}    ==    0
    Pattern Should Be Intact    ${namespace}    seed=unhurt

A DIMM Without SMART Injection Refuses It And Nothing Changes
    [Documentation]    The error has ndctl's own refusal with its exit status: 251 (EIO) for an NVDIMM, 231 (ENOTTY) for
    ...    CXL memory. The DIMM does not change. The library asks a real DIMM only with `foreign=True`.
    [Tags]    hl-03
    ${dimm} =    Choose A Silent DIMM Or Skip
    ${before} =    Get Dimm Health    ${dimm}
    Run Keyword And Expect Error    DIMM ${dimm} on * is foreign: its bus is real *, so no run made it*
    ...    Inject Smart    ${dimm}    spares=4
    Run Keyword And Expect Error    *does not support this injection*exit status: 2[35]1*
    ...    Inject Smart    ${dimm}    spares=4    temperature=90    foreign=True
    Run Keyword And Expect Error    *does not support this injection*exit status: 2[35]1*
    ...    Uninject Smart    ${dimm}    foreign=True
    ${after} =    Get Dimm Health    ${dimm}
    Should Be Equal    ${after}    ${before}

An Invalid Injection Is Refused Before The Bus Gets It
    [Documentation]    Refused are half a sector, a range beyond the end, an empty range, and an injection without
    ...    values.
    [Tags]    hl-03
    ${region} =    Choose A Region
    ${namespace} =    Create Namespace    ${region}    mode=devdax    size=at least 16MiB
    Run Keyword And Expect Error    offset '100B' cannot be used: expected a multiple of 512*
    ...    Inject Error    ${namespace}    offset=100    length=4KiB
    Run Keyword And Expect Error    range '4KiB from *' cannot be used*
    ...    Inject Error    ${namespace}    offset=${namespace.size}    length=4KiB
    Run Keyword And Expect Error    range '0B from *' cannot be used*
    ...    Inject Error    ${namespace}    offset=0    length=0
    Run Keyword And Expect Error    SMART values 'none' cannot be used*
    ...    Inject Smart    ${region.dimms}[0]    foreign=True


*** Keywords ***
Kernel Should List Dimms
    [Documentation]    Fail unless sysfs has exactly these DIMMs.
    [Arguments]    ${dimms}
    ${devices} =    Get Output Of Host    ls    ${SYSFS}
    ${names} =    Get Words    ${devices}
    ${in_sysfs} =    Collections.Get Matches    ${names}    nmem*
    Collections.Lists Should Be Equal    ${dimms}    ${in_sysfs}    ignore_order=True

Kernel Should Have Flags
    [Documentation]    Compare the kernel's flags of a DIMM with its file of sysfs. None stands for a missing file.
    [Arguments]    ${health}
    IF    $health.kernel_flags is None
        Kernel Should Have    ${SYSFS}/${health.dev}/nfit/flags    ${None}
    ELSE
        VAR    ${flags} =    @{health.kernel_flags}
        Kernel Should Have    ${SYSFS}/${health.dev}/nfit/flags    ${flags}
    END

Row Of Health Should Be
    [Documentation]    Fail unless the table of a DIMM's health has a row with this name and value.
    [Arguments]    ${health}    ${name}    ${value}
    Should Contain    ${health.as_rows()}    ${{($name, $value)}}

Read Bad Blocks Of The Kernel
    [Documentation]    Return the kernel's own lists of bad blocks of every region.
    ${lists} =    Run Script On Host    list_bad_blocks.sh
    RETURN    ${lists}

Choose A Silent DIMM Or Skip
    [Documentation]    Return a DIMM with neither SMART nor a count. Such a DIMM does not support SMART injection.
    ${healths} =    Get Dimm Health
    FOR    ${health}    IN    @{healths}
        IF    not $health.values and $health.dirty_shutdown is None
            RETURN    ${health.dev}
        END
    END
    Skip    Every DIMM of this host reports its health. No fix is needed: QEMU's NVDIMMs report none.

Choose A Region Without Injection Or Skip
    [Documentation]    Return a region with room whose bus supports no error injection (DSM functions 7 to 9).
    ${region} =    Get Region With Room    at_least=16MiB
    ${mask} =    Run On Host    cat    ${SYSFS}/${region.bus}/nfit/dsm_mask    expected_status=${None}
    Skip If    int($mask.text.strip() or '0', 0) & 0x380
    ...    The bus of ${region.dev} takes injections: see the tests of HL-01. No fix is needed.
    RETURN    ${region}
