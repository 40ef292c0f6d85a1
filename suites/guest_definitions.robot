*** Settings ***
Documentation     The definitions of guests: the requested order and sizes, and the guests that other tools defined.

Library           OperatingSystem
Library           XML
Resource          ../resources/guest.resource

Suite Setup       Take A Host With Two Namespaces
Suite Teardown    Give The Host Back


*** Test Cases ***
Several Devices Keep The Requested Order
    [Documentation]    libvirt's XML has the devices in the given order, in both orders.
    [Tags]    gd-02
    [Template]    Devices Should Have The Order Of
    ${ONE}    ${TWO}
    ${TWO}    ${ONE}

A Size That Is Not A Multiple Of Two Mebibytes Becomes The Predicted Size
    [Documentation]    libvirt rounds 31MiB up when the guest starts. Its live XML and QEMU have the predicted size.
    [Tags]    gd-05
    ${guest} =    Define A Guest With A Device Of 31MiB
    Start Guest    ${guest}
    ${predicted} =    Get Predicted Device Size    31MiB
    ${devices} =    Get Guest Devices    ${guest}
    Should Be Equal    ${devices[0].size}    ${predicted}
    ${xml} =    Get Guest Xml    ${guest}
    XML.Element Text Should Be    ${xml}    32768    xpath=devices/memory/target/size
    QEMU Should Have Size    ${guest}    ${predicted}
    [Teardown]    End The Guests Of This Run

An Odd Size Is Refused By The Library's Own Definition
    [Documentation]    The error names the nearest valid sizes. No guest is created.
    [Tags]    gd-05
    ${device} =    New Vpmem Device    ${ONE}    size=31MiB
    Run Keyword And Expect Error    *31MiB*30MiB or 32MiB*    Define Guest    vpmem=${device}    name=odd
    ${guests} =    Get Guests
    Should Not Contain    ${guests}    odd

A Guest That Virsh Defined Is Read
    [Documentation]    The device has no alignment, label or access, and is read-only. Each of these is read correctly.
    [Tags]    gd-08
    ${device} =    Read The Device Of A Foreign Guest    virsh
    Should Be Equal    ${device.label_size}    ${None}
    Should Be Equal    ${device.access}    ${None}
    Should Be True    ${device.readonly}
    Should Not Be True    ${device.pmem}

A Guest That Nova Defined Is Read
    [Documentation]    The XML is like that of Nova's libvirt driver, with sizes in KiB without a unit.
    [Tags]    gd-08
    ${device} =    Read The Device Of A Foreign Guest    nova
    Should Be Equal As Strings    ${device.label_size}    2MiB
    Should Be Equal As Strings    ${device.align}    2MiB
    Should Be Equal As Strings    ${device.access}    shared
    Should Be True    ${device.pmem}

A Guest That oVirt Defined Is Read
    [Documentation]    The XML is like that of oVirt's engine, with a custom alias and a label of 128 KiB.
    [Tags]    gd-08
    ${device} =    Read The Device Of A Foreign Guest    ovirt
    Should Be Equal As Strings    ${device.label_size}    128KiB
    Should Be Equal As Strings    ${device.access}    shared

A Foreign Guest Is Not Undefined
    [Documentation]    A guest without this run's mark stays until the call says `foreign=True`.
    [Tags]    gd-08
    Define A Foreign Guest    nova
    Run Keyword And Expect Error    *not this run's own*    Undefine Guest    foreign-nova
    ${guests} =    Get Guests
    Should Contain    ${guests}    foreign-nova
    [Teardown]    Undefine Guest    foreign-nova    foreign=True


*** Keywords ***
Devices Should Have The Order Of
    [Documentation]    Define a guest with these namespaces. Fail unless libvirt's XML has the devices in this order.
    [Arguments]    @{namespaces}
    ${guest} =    Define Guest    vpmem=${namespaces}
    ${devices} =    Get Guest Devices    ${guest}    inactive=True
    FOR    ${device}    ${namespace}    IN ZIP    ${devices}    ${namespaces}    mode=STRICT
        Should Be Equal    ${device.path}    ${namespace.device}
    END
    Undefine Guest    ${guest}

QEMU Should Have Size
    [Documentation]    Fail unless the arguments of a guest's QEMU contain this size in bytes.
    [Arguments]    ${guest}    ${size}
    ${process} =    Get Guest Process    ${guest}
    ${arguments} =    Get Output Of Host    cat    /proc/${process}/cmdline
    ${bytes} =    Get Size In Bytes    ${size}
    Should Contain    ${arguments}    "size":${bytes}

Define A Guest With A Device Of 31MiB
    [Documentation]    Define a guest with a device of 31MiB. The library refuses this size, so change it in the XML of
    ...    a valid guest.
    ${device} =    New Vpmem Device    ${ONE}    size=32MiB
    ${xml} =    New Guest Xml    vpmem=${device}
    ${root} =    XML.Parse Xml    ${xml}
    XML.Set Element Text    ${root}    31744    xpath=devices/memory/target/size
    ${odd} =    XML.Element To String    ${root}
    ${guest} =    Define Guest From Xml    ${odd}
    RETURN    ${guest}

Define A Foreign Guest
    [Documentation]    Define a guest on the first namespace with the host's own virsh, with the XML of another tool.
    [Arguments]    ${shape}
    ${xml} =    OperatingSystem.Get File    ${CURDIR}/../resources/domains/${shape}.xml
    ${kib} =    Get Size In Kib    ${ONE.size}
    VAR    &{values} =
    ...    @NAME@=foreign-${shape}
    ...    @PATH@=${ONE.device}
    ...    @KIB@=${kib}
    ...    @MAXIMUM@=${{262144 + $kib}}
    ${xml} =    Fill In Values    ${xml}    &{values}
    Run On Host    virsh    define    /dev/stdin    stdin=${xml}

Read The Device Of A Foreign Guest
    [Documentation]    Read a guest that this library did not define, and compare it with its definition. Return its
    ...    device.
    [Arguments]    ${shape}
    Define A Foreign Guest    ${shape}
    ${devices} =    Get Guest Devices    foreign-${shape}    inactive=True
    Length Should Be    ${devices}    1
    Should Be Equal    ${devices[0].path}    ${ONE.device}
    Should Be Equal    ${devices[0].size}    ${ONE.size}
    Should Be Equal As Integers    ${devices[0].node}    0
    RETURN    ${devices[0]}
    [Teardown]    Undefine Guest    foreign-${shape}    foreign=True

End The Guests Of This Run
    [Documentation]    End and undefine the guests of this run. Keep the namespaces.
    ${guests} =    Get Guests
    ${run} =    Get Run Id
    FOR    ${guest}    IN    @{guests}
        IF    'vpmem-' + $run not in $guest    CONTINUE
        ${state} =    Get Guest State    ${guest}
        IF    $state != 'shut off'    Stop Guest    ${guest}    how=destroy
        Undefine Guest    ${guest}
    END
