*** Settings ***
Documentation     The health of DIMMs and their bad blocks, and what a bus does that takes no injections.
...
...               What no DIMM tells is absent, never 0: each value is held against sysfs, read by itself.

Resource          ../resources/host.resource

Suite Setup       Take A Host
Suite Teardown    Give The Host Back
Test Teardown     Clean Up Host


*** Variables ***
${SYSFS}    /sys/bus/nd/devices


*** Test Cases ***
The Health Of Every DIMM Is What The Kernel Has
    [Documentation]    One table for the host. Flags and dirty-shutdown counts are those of sysfs, and None where it has
    ...    none; the other fields agree in ndctl and sysfs.
    [Tags]    hl-04
    ${healths} =    Get Health
    ${names} =    Run On Host    sh    -c    cd ${SYSFS} && ls -d nmem* | sort -V
    Should Be Equal    ${{[health.dev for health in $healths]}}    ${names.text.split()}
    FOR    ${health}    IN    @{healths}
        VAR    ${flags} =
        ...    ${{$health.kernel_flags if $health.kernel_flags is None else ' '.join($health.kernel_flags)}}
        Kernel Should Say    ${health.dev}/nfit/flags    ${flags}
        Kernel Should Say    ${health.dev}/nfit/dirty_shutdown    ${health.dirty_shutdown}
        Dimm Health Views Should Agree    ${health.dev}
    END

A Count That Nothing Tells Is Absent Rather Than Zero
    [Documentation]    A DIMM with neither SMART nor a count of the kernel's: None in the record, an error when asked.
    [Tags]    hl-04
    ${dimm} =    Choose A Silent DIMM
    ${health} =    Get Dimm Health    ${dimm}
    Should Be Equal    ${health.dirty_shutdown_count}    ${None}
    Should Be Equal    ${health.health_state}    ${None}
    Should Contain    ${health.as_rows()}    ${{('dirty shutdowns (kernel)', 'absent')}}
    Run Keyword And Expect Error    The dirty-shutdown count of ${dimm} on * is absent*
    ...    Get Dirty Shutdown Count    ${dimm}    ==    0
    ${listed} =    Run On Host    ndctl    list    --dimms    --health    --dimm    ${dimm}
    Should Not Contain    ${listed.text}    health
    Kernel Should Say    ${dimm}/nfit/dirty_shutdown    ${None}

A Bus Without Error Injection Refuses It And Nothing Changes
    [Documentation]    ndctl's own refusal with its exit status, by the bus's name; bad blocks and bytes are as before.
    [Tags]    hl-03
    ${region} =    Choose A Region Without Injection
    ${namespace} =    Create Namespace    ${region}    mode=devdax    size=at least 16MiB    name=unhurt
    Write Pattern    ${namespace}    seed=unhurt
    ${before} =    Read Bad Blocks Of The Kernel
    Run Keyword And Expect Error    *its bus (${region.provider}) has no such injection*exit status: 161*
    ...    Inject Error    ${namespace}    offset=1MiB    length=4KiB
    Run Keyword And Expect Error    *its bus (${region.provider}) has no such injection*exit status: 161*
    ...    Uninject Error    ${namespace}    offset=1MiB    length=4KiB
    ${after} =    Read Bad Blocks Of The Kernel
    Should Be Equal    ${after}    ${before}
    Get Bad Block Count    ${namespace}    ==    0
    Pattern Should Be Intact    ${namespace}    seed=unhurt

A DIMM Without SMART Injection Refuses It And Nothing Changes
    [Documentation]    ndctl's own refusal with its exit status; the DIMM is as it was. A real DIMM is not even asked
    ...    unless told so in words.
    [Tags]    hl-03
    ${dimm} =    Choose A Silent DIMM
    ${before} =    Get Dimm Health    ${dimm}
    Run Keyword And Expect Error    DIMM ${dimm} on * is of the real bus *: no run made it*
    ...    Inject Smart    ${dimm}    spares=4
    Run Keyword And Expect Error    *has no such injection*exit status: 251*
    ...    Inject Smart    ${dimm}    spares=4    temperature=90    foreign=True
    Run Keyword And Expect Error    *has no such injection*exit status: 251*
    ...    Uninject Smart    ${dimm}    foreign=True
    ${after} =    Get Dimm Health    ${dimm}
    Should Be Equal    ${after}    ${before}

An Injection That Cannot Be Is Refused Before The Bus Is Asked
    [Documentation]    Half a sector, a range past the end, no value at all, and what another made.
    [Tags]    hl-03
    ${region} =    Get Roomiest Region    at_least=16MiB
    ${namespace} =    Create Namespace    ${region}    mode=devdax    size=at least 16MiB
    Run Keyword And Expect Error    offset '100B' cannot be used: expected a multiple of 512*
    ...    Inject Error    ${namespace}    offset=100    length=4KiB
    Run Keyword And Expect Error    range '4KiB from *' cannot be used*
    ...    Inject Error    ${namespace}    offset=${namespace.size}    length=4KiB
    Run Keyword And Expect Error    range '0B from *' cannot be used*
    ...    Inject Error    ${namespace}    offset=0    length=0
    ${dimm} =    Choose A Silent DIMM
    Run Keyword And Expect Error    SMART values 'none' cannot be used*    Inject Smart    ${dimm}    foreign=True


*** Keywords ***
Kernel Should Say
    [Documentation]    Compares a value with one file of sysfs; None stands for a file that is not there.
    [Arguments]    ${path}    ${value}
    ${file} =    Run On Host    cat    ${SYSFS}/${path}    expected_status=${None}
    IF    $file.exit_status == 0
        Should Be Equal    ${{str($value)}}    ${file.text.strip()}
    ELSE
        Should Be Equal    ${value}    ${None}
    END

Read Bad Blocks Of The Kernel
    [Documentation]    Returns the kernel's own lists of bad blocks, of every region.
    ${lists} =    Run On Host    sh    -c    cd ${SYSFS} && grep -H "" region*/badblocks; exit 0
    RETURN    ${lists.text}

Choose A Silent DIMM
    [Documentation]    Returns a DIMM that has neither SMART nor a count, so that it takes no SMART injection either.
    ${healths} =    Get Health
    FOR    ${health}    IN    @{healths}
        IF    not $health.values and $health.dirty_shutdown is None
            RETURN    ${health.dev}
        END
    END
    Skip    Every DIMM of this host tells its health. Mend: none is needed; QEMU's NVDIMMs are silent.

Choose A Region Without Injection
    [Documentation]    Returns a region with room whose bus takes no injection of errors (DSM functions 7 to 9).
    ${region} =    Get Roomiest Region    at_least=16MiB
    ${mask} =    Run On Host    cat    ${SYSFS}/${region.bus}/nfit/dsm_mask    expected_status=${None}
    Skip If    int($mask.text.strip() or '0', 0) & 0x380
    ...    The bus of ${region.dev} takes injections: see the tests of HL-01. Mend: none is needed.
    RETURN    ${region}
