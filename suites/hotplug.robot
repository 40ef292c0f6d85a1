*** Settings ***
Documentation     Devices that a guest gets and loses after it was defined.
...
...               One guest with one device and two spare slots is booted once. The set-up of a test attaches the
...               devices that the test needs, unless they are attached.

Resource          ../resources/guest.resource

Suite Setup       Boot A Guest With Two Spare Slots
Suite Teardown    Give The Host Back


*** Variables ***
${SEED}      written before anything was attached
${LENGTH}    8MiB


*** Test Cases ***
A Device Larger Than The Free Memory Is Refused
    [Documentation]    The error has the free memory. The guest keeps running with its bytes.
    [Tags]    hp-04
    Run Keyword And Expect Error    *no room for the ${LARGE.size}*${SPARE} are free*
    ...    Attach Vpmem Device    ${GUEST}    ${LARGE}
    Guest Should Be Unharmed    devices=1

The Backing Of An Attached Device Is Refused
    [Documentation]    The same path is refused, and so is a symbolic link to it. libvirt itself accepts the link
    ...    without an error.
    [Tags]    hp-04
    Run Keyword And Expect Error    *another backing for each device*    Attach Vpmem Device    ${GUEST}    ${FIRST}
    Run On Host    ln    -s    ${FIRST.device}    /run/vpmem-the-same
    ${link} =    New Vpmem Device    /run/vpmem-the-same    size=${FIRST.size}
    Run Keyword And Expect Error    *another backing: it is the same as*    Attach Vpmem Device    ${GUEST}    ${link}
    Guest Should Be Unharmed    devices=1
    [Teardown]    Run On Host    rm    -f    /run/vpmem-the-same

A Device Is Attached To A Running Guest
    [Documentation]    libvirt's event and XML, QEMU's monitor and the guest's kernel have the device. The host finds
    ...    its bytes.
    [Tags]    hp-01
    ${attached} =    Attach Vpmem Device    ${GUEST}    ${SECOND}
    Should Match Regexp    ${attached.event}    (mem)?nvdimm1
    Should Be Equal As Integers    ${attached.device.slot}    1
    All Views Should Agree    ${GUEST}
    ${inactive} =    Get Guest Devices    ${GUEST}    inactive=True
    Should Be Equal    ${inactive[1].path}    ${SECOND.device}
    Write Pattern In Guest    ${GUEST}    ${SECOND}    seed=attached    length=${LENGTH}
    Host Should Hold Guest Pattern    ${GUEST}    ${SECOND}    seed=attached    length=${LENGTH}
    Guest Should Be Unharmed    devices=2

A Device Is Attached Only Until The Guest Stops
    [Documentation]    The running guest has the device, but the XML for its next start does not.
    [Tags]    hp-01
    [Setup]    Guest Has Second Device
    Attach Vpmem Device    ${GUEST}    ${THIRD}    persistent=False
    All Views Should Agree    ${GUEST}
    ${inactive} =    Get Guest Devices    ${GUEST}    inactive=True
    Length Should Be    ${inactive}    2
    Guest Should Be Unharmed    devices=3

A Device Is Refused If No Slot Is Free
    [Documentation]    All three slots are used.
    [Tags]    hp-04
    [Setup]    Guest Has Second And Third Device
    Run Keyword And Expect Error    *no free memory slot*of its 3 slots, 3 are in use*
    ...    Attach Vpmem Device    ${GUEST}    ${FOURTH}    persistent=False
    Guest Should Be Unharmed    devices=3

A Running Guest Keeps Its Devices
    [Documentation]    QEMU refuses to remove an NVDIMM. The error has libvirt's error code and the fix.
    [Tags]    hp-02
    [Setup]    Guest Has Second And Third Device
    Run Keyword And Expect Error    *libvirt error code 1*Detach it for the next start*
    ...    Detach Vpmem Device    ${GUEST}    ${SECOND}    live=True
    Guest Should Be Unharmed    devices=3

Attached Devices Survive A Reboot
    [Documentation]    A new boot of the same QEMU has all devices and their bytes.
    [Tags]    hp-05
    [Setup]    Guest Has Second And Third Device
    ${before} =    Get Guest Boot Id    ${GUEST}
    Reboot Guest    ${GUEST}
    Get Guest Boot Id    ${GUEST}    !=    ${before}
    All Views Should Agree    ${GUEST}
    Guest Pattern Should Be Intact    ${GUEST}    ${SECOND}    seed=attached    length=${LENGTH}
    Guest Should Be Unharmed    devices=3

A Restarted Guest Has The Devices Of Its Configuration
    [Documentation]    The guest keeps the device that was attached persistently, and loses the device that was attached
    ...    live only.
    [Tags]    hp-05
    [Setup]    Guest Has Second And Third Device
    Stop Guest    ${GUEST}    how=destroy
    Start Guest    ${GUEST}
    Guest Should Have Devices On    ${FIRST}    ${SECOND}
    Guest Pattern Should Be Intact    ${GUEST}    ${SECOND}    seed=attached    length=${LENGTH}
    Guest Should Be Unharmed    devices=2

A Device Is Detached From The Next Start
    [Documentation]    The guest boots without the device. The device's bytes stay in its namespace.
    [Tags]    hp-03
    [Setup]    Guest Has Second Device
    Stop Guest    ${GUEST}    how=destroy
    Detach Vpmem Device    ${GUEST}    ${SECOND}
    Start Guest    ${GUEST}
    Guest Should Be Unharmed    devices=1
    Pattern Should Be Intact    ${SECOND}    seed=attached    length=${LENGTH}


*** Keywords ***
Boot A Guest With Two Spare Slots
    [Documentation]    Boot a guest that has a device with a pattern, and create the namespaces to attach.
    Take A Fitting Host Or Skip    mapping    labels
    Create Namespaces To Attach
    ${guest} =    Start New Guest    vpmem=${FIRST}    spare_slots=2    spare_memory=${SPARE}
    VAR    ${GUEST} =    ${guest}    scope=SUITE
    Write Pattern In Guest    ${GUEST}    ${FIRST}    seed=${SEED}    length=${LENGTH}

Guest Should Be Unharmed
    [Documentation]    Check that the guest's kernel has `devices` regions, and that the first device has the bytes from
    ...    the start.
    [Arguments]    ${devices}
    ${regions} =    Get Guest Regions    ${GUEST}
    Length Should Be    ${regions}    ${devices}
    Guest Pattern Should Be Intact    ${GUEST}    ${FIRST}    seed=${SEED}    length=${LENGTH}

Create Namespaces To Attach
    [Documentation]    Create four namespaces of one size, and one namespace that is larger than the spare memory.
    ${size} =    Get Smallest Size    64MiB
    ${spare} =    Multiply Size    ${size}    3
    VAR    ${SPARE} =    ${spare}    scope=SUITE
    FOR    ${name}    IN    first    second    third    fourth
        ${namespace} =    Create Devdax Namespace    ${size}    ${name}
        VAR    ${${name}} =    ${namespace}    scope=SUITE
    END
    ${four_times} =    Multiply Size    ${size}    4
    ${large} =    Create Devdax Namespace    ${four_times}    large
    VAR    ${LARGE} =    ${large}    scope=SUITE

Guest Has Second Device
    [Documentation]    Attach the second device persistently, with a pattern, unless the guest has it.
    ${paths} =    Get Paths Of Devices
    IF    $SECOND.device not in $paths
        Attach Vpmem Device    ${GUEST}    ${SECOND}
        Write Pattern In Guest    ${GUEST}    ${SECOND}    seed=attached    length=${LENGTH}
    END

Guest Has Second And Third Device
    [Documentation]    Attach the second device persistently, and the third device until the guest stops, unless the
    ...    guest has them.
    Guest Has Second Device
    ${paths} =    Get Paths Of Devices
    IF    $THIRD.device not in $paths
        Attach Vpmem Device    ${GUEST}    ${THIRD}    persistent=False
    END

Get Paths Of Devices
    [Documentation]    Return the paths of the devices that the running guest has, from its live XML.
    ${devices} =    Get Guest Devices    ${GUEST}
    ${paths} =    Get Field Of Each    ${devices}    path
    RETURN    ${paths}

Guest Should Have Devices On
    [Documentation]    Fail unless the running guest has exactly the devices on these namespaces, in this order.
    [Arguments]    @{namespaces}
    ${paths} =    Get Paths Of Devices
    ${expected} =    Get Field Of Each    ${namespaces}    device
    Should Be Equal    ${paths}    ${expected}
