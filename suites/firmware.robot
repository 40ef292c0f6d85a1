*** Settings ***
Documentation     The firmware of DIMMs is updated and activated.
...
...               Firmware needs a test bus, a bus of the kernel's nfit_test module. An activation stops the host's
...               tasks and devices for a moment.

Resource          ../resources/test_bus.resource

Suite Setup       Take A Host With A Test Bus
Suite Teardown    Give The Host And Its Own Bus Back


*** Variables ***
${IMAGE}    /var/lib/vpmem/firmware.img


*** Test Cases ***
A Wrong Image Is Refused
    [Documentation]    The message has ndctl's reason. No update waits in the DIMM afterwards.
    [Tags]    fw-01
    Make An Image    size=0
    Run Keyword And Expect Error    *Input file size is 0*    Update Dimm Firmware    ${DIMM}    ${IMAGE}
    Make An Image    size=100M
    Run Keyword And Expect Error    *size greater than DIMM store*    Update Dimm Firmware    ${DIMM}    ${IMAGE}
    Run Keyword And Expect Error    *failed to open*    Update Dimm Firmware    ${DIMM}    /nowhere/firmware.img
    Firmware Should Be    next_version=${None}    activation=${EMPTY}
    [Teardown]    Run On Host    rm    -f    ${IMAGE}

An Activation Without An Update Is Refused
    [Documentation]    The bus says beforehand what an activation needs, and that nothing is armed.
    [Tags]    fw-02
    Get Firmware Activation    ${BUS}    ==    suspend idle
    Run Keyword And Expect Error    No DIMM of bus ${BUS} * has an armed update*    Activate Firmware    ${BUS}

An Update Is Armed And Activated
    [Documentation]    The kernel's own file agrees with ndctl before and after. The connection to the host survives.
    [Tags]    fw-01    fw-02
    Make An Image    size=10K
    ${before} =    Get Dimm Firmware    ${DIMM}
    Should Be True    ${before.can_update}
    ${armed} =    Update Dimm Firmware    ${DIMM}    ${IMAGE}
    Should Not Be Equal    ${armed.next_version}    ${before.version}
    Kernel Should Have    /sys/bus/nd/devices/${DIMM}/firmware/activate    armed
    Get Firmware Activation    ${BUS}    ==    suspend armed
    Activate Firmware    ${BUS}
    Kernel Should Have    /sys/bus/nd/devices/${DIMM}/firmware/activate    idle
    Kernel Should Have    /sys/bus/nd/devices/${DIMM}/firmware/result    success
    [Teardown]    Run On Host    rm    -f    ${IMAGE}


*** Keywords ***
Make An Image
    [Documentation]    Make a file with a firmware image of this size on the host.
    [Arguments]    ${size}
    Run On Host    mkdir    -p    /var/lib/vpmem
    Run On Host    truncate    --size\=${size}    ${IMAGE}

Firmware Should Be
    [Documentation]    Compare the update that waits in the DIMM, and its activation.
    [Arguments]    ${next_version}    ${activation}
    ${firmware} =    Get Dimm Firmware    ${DIMM}
    Should Be Equal    ${firmware.next_version}    ${next_version}
    Should Be Equal    ${firmware.activation}    ${activation}
    Kernel Should Have    /sys/bus/nd/devices/${DIMM}/firmware/activate    idle
