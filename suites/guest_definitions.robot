*** Settings ***
Documentation     Guests as they are defined: the order and sizes that were asked for, and guests that others defined.

Library           OperatingSystem
Library           String
Library           XML
Resource          ../resources/guest.resource

Suite Setup       Make Two Namespaces
Suite Teardown    Give The Host Back


*** Test Cases ***
Several Devices Keep The Order Asked For
    [Documentation]    The XML that libvirt keeps has the devices in the order given, whichever way round.
    [Tags]    gd-02
    VAR    @{there} =    ${ONE}    ${TWO}
    VAR    @{back} =    ${TWO}    ${ONE}
    FOR    ${order}    IN    ${there}    ${back}
        ${guest} =    Define Guest    vpmem=${order}
        ${devices} =    Get Guest Devices    ${guest}    inactive=True
        Should Be Equal    ${devices[0].path}    ${order[0].device}
        Should Be Equal    ${devices[1].path}    ${order[1].device}
        Undefine Guest    ${guest}
    END

A Size That Is No Multiple Of Two Mebibytes Becomes The Predicted One
    [Documentation]    libvirt rounds 31MiB up when the guest starts: its live XML has what was predicted, and QEMU too.
    [Tags]    gd-05
    ${guest} =    Define A Guest With A Device Of 31MiB
    Start Guest    ${guest}
    ${predicted} =    Get Predicted Device Size    31MiB
    ${devices} =    Get Guest Devices    ${guest}
    Should Be Equal    ${devices[0].size}    ${predicted}
    ${process} =    Get Guest Process    ${guest}
    ${line} =    Run On Host    cat    /proc/${process}/cmdline
    Should Contain    ${line.text}    "size":${{int($predicted)}}
    [Teardown]    End The Guests Of This Run

An Odd Size Is Refused Where The Library Itself Is Asked
    [Documentation]    The sizes on either side are named, and no guest is left.
    [Tags]    gd-05
    ${device} =    New Vpmem Device    ${ONE}    size=31MiB
    Run Keyword And Expect Error    *31MiB*30MiB or 32MiB*    Define Guest    vpmem=${device}    name=odd
    ${guests} =    Get Guests
    Should Not Contain    ${guests}    odd

A Guest That Virsh Defined Is Read
    [Documentation]    No alignment, no label, no access, read-only: each is read as what it is.
    [Tags]    gd-08
    ${device} =    Read The Device Of A Foreign Guest    virsh
    Should Be Equal    ${device.label_size}    ${None}
    Should Be Equal    ${device.access}    ${None}
    Should Be True    ${device.readonly}
    Should Not Be True    ${device.pmem}

A Guest That Nova Defined Is Read
    [Documentation]    The shape of Nova's libvirt driver: sizes in KiB without a unit.
    [Tags]    gd-08
    ${device} =    Read The Device Of A Foreign Guest    nova
    Should Be Equal As Strings    ${device.label_size}    2MiB
    Should Be Equal As Strings    ${device.align}    2MiB
    Should Be Equal As Strings    ${device.access}    shared
    Should Be True    ${device.pmem}

A Guest That oVirt Defined Is Read
    [Documentation]    The shape of oVirt's engine: an alias of its own and a label of 128 KiB.
    [Tags]    gd-08
    ${device} =    Read The Device Of A Foreign Guest    ovirt
    Should Be Equal As Strings    ${device.label_size}    128KiB
    Should Be Equal As Strings    ${device.access}    shared

A Foreign Guest Is Not Ended Or Undefined
    [Documentation]    A guest without this run's mark is refused and stays, until it is said in words.
    [Tags]    gd-08
    Define A Foreign Guest    nova
    Run Keyword And Expect Error    *not this run's own*    Undefine Guest    foreign-nova
    ${guests} =    Get Guests
    Should Contain    ${guests}    foreign-nova
    [Teardown]    Undefine Guest    foreign-nova    foreign=True


*** Keywords ***
Make Two Namespaces
    [Documentation]    Takes a host and makes two namespaces that guests can be defined on.
    Take A Host
    ${one} =    Create Devdax Namespace    64MiB    one
    ${two} =    Create Devdax Namespace    64MiB    two
    VAR    ${ONE} =    ${one}    scope=SUITE
    VAR    ${TWO} =    ${two}    scope=SUITE

Define A Guest With A Device Of 31MiB
    [Documentation]    The library refuses such a size, so it is put into the XML of a good guest.
    ${device} =    New Vpmem Device    ${ONE}    size=32MiB
    ${xml} =    New Guest Xml    vpmem=${device}
    ${root} =    XML.Parse Xml    ${xml}
    XML.Set Element Text    ${root}    31744    xpath=devices/memory/target/size
    ${odd} =    XML.Element To String    ${root}
    ${guest} =    Define Guest From Xml    ${odd}
    RETURN    ${guest}

Define A Foreign Guest
    [Documentation]    Has the host's own virsh define a guest on the first namespace, in the shape that others use.
    [Arguments]    ${shape}
    ${xml} =    OperatingSystem.Get File    ${CURDIR}/../resources/domains/${shape}.xml
    VAR    ${kib} =    ${{$ONE.size // 1024}}
    VAR    &{values} =
    ...    @NAME@=foreign-${shape}
    ...    @PATH@=${ONE.device}
    ...    @KIB@=${kib}
    ...    @MAXIMUM@=${{262144 + $kib}}
    FOR    ${name}    ${value}    IN    &{values}
        ${xml} =    String.Replace String    ${xml}    ${name}    ${value}
    END
    Run On Host    virsh    define    /dev/stdin    stdin=${xml}

Read The Device Of A Foreign Guest
    [Documentation]    Reads a guest that this library did not define, and compares it with what its author asked for.
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
    [Documentation]    Ends and undefines them, and leaves the namespaces.
    ${guests} =    Get Guests
    ${run} =    Get Run Id
    FOR    ${guest}    IN    @{guests}
        IF    'vpmem-' + $run not in $guest    CONTINUE
        ${state} =    Get Guest State    ${guest}
        IF    $state != 'shut off'    Destroy Guest    ${guest}
        Undefine Guest    ${guest}
    END
