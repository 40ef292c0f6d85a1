*** Settings ***
Documentation     Devices that a guest gets and loses after it was defined.
...
...               One guest with one device and two spare slots; each test goes on from where the one before it stopped.

Resource          ../resources/guest.resource

Suite Setup       Boot A Guest With Two Spare Slots
Suite Teardown    Give The Host Back


*** Variables ***
${SEED}      written before anything was attached
${LENGTH}    8MiB


*** Test Cases ***
A Device Larger Than The Room That Is Left Is Refused
    [Documentation]    The message has the room that is left; the guest goes on with its bytes.
    [Tags]    hp-04
    Run Keyword And Expect Error    *no room for the ${LARGE.size}*${SPARE} are left*
    ...    Attach Vpmem Device    ${GUEST}    ${LARGE}
    The Guest Should Be Unharmed    devices=1

The Backing Of Another Device Is Refused
    [Documentation]    The same path twice, and a symbolic link to it, which libvirt takes in silence.
    [Tags]    hp-04
    Run Keyword And Expect Error    *another backing for each device*    Attach Vpmem Device    ${GUEST}    ${FIRST}
    Run On Host    ln    -s    ${FIRST.device}    /run/vpmem-the-same
    ${link} =    New Vpmem Device    /run/vpmem-the-same    size=${FIRST.size}
    Run Keyword And Expect Error    *another backing than*the same*    Attach Vpmem Device    ${GUEST}    ${link}
    The Guest Should Be Unharmed    devices=1
    [Teardown]    Run On Host    rm    -f    /run/vpmem-the-same

A Device Is Attached To A Running Guest
    [Documentation]    libvirt's event and XML, QEMU's monitor and the guest's kernel have it, and the host its bytes.
    [Tags]    hp-01
    ${attached} =    Attach Vpmem Device    ${GUEST}    ${SECOND}
    Should Match Regexp    ${attached.event}    (mem)?nvdimm1
    Should Be Equal As Integers    ${attached.device.slot}    1
    All Views Should Agree    ${GUEST}
    ${inactive} =    Get Guest Devices    ${GUEST}    inactive=True
    Should Be Equal    ${inactive[1].path}    ${SECOND.device}
    Write Pattern In Guest    ${GUEST}    ${SECOND}    seed=attached    length=${LENGTH}
    Host Should Hold Guest Pattern    ${GUEST}    ${SECOND}    seed=attached    length=${LENGTH}
    The Guest Should Be Unharmed    devices=2

A Device May Be Attached For This Run Of The Guest Alone
    [Documentation]    The running guest has it, the XML of its next start has not.
    [Tags]    hp-01
    Attach Vpmem Device    ${GUEST}    ${THIRD}    persistent=False
    All Views Should Agree    ${GUEST}
    ${inactive} =    Get Guest Devices    ${GUEST}    inactive=True
    Length Should Be    ${inactive}    2
    The Guest Should Be Unharmed    devices=3

No Device Is Taken Where No Slot Is Left
    [Documentation]    All three slots are taken.
    [Tags]    hp-04
    Run Keyword And Expect Error    *no memory slot left*it has 3 and 3 of them are taken*
    ...    Attach Vpmem Device    ${GUEST}    ${FOURTH}    persistent=False
    The Guest Should Be Unharmed    devices=3

A Running Guest Keeps Its Devices
    [Documentation]    QEMU refuses to take an NVDIMM out; the message has its code and the mend.
    [Tags]    hp-02
    Run Keyword And Expect Error    *libvirt error code 1*detach it for the next start*
    ...    Detach Vpmem Device    ${GUEST}    ${SECOND}    live=True
    The Guest Should Be Unharmed    devices=3

What Was Attached Survives A Reboot
    [Documentation]    It is another boot of the same QEMU, with both devices and their bytes.
    [Tags]    hp-05
    ${before} =    Get Guest Boot Id    ${GUEST}
    Reboot Guest    ${GUEST}
    Get Guest Boot Id    ${GUEST}    !=    ${before}
    All Views Should Agree    ${GUEST}
    Guest Pattern Should Be Intact    ${GUEST}    ${SECOND}    seed=attached    length=${LENGTH}
    The Guest Should Be Unharmed    devices=3

A Restarted Guest Has What Its Configuration Says
    [Documentation]    What was attached for good is there, what was attached for one run is not.
    [Tags]    hp-05
    Destroy Guest    ${GUEST}
    Start Guest    ${GUEST}
    ${live} =    Get Guest Devices    ${GUEST}
    Should Be Equal    ${{[device.path for device in $live]}}    ${{[$FIRST.device, $SECOND.device]}}
    Guest Pattern Should Be Intact    ${GUEST}    ${SECOND}    seed=attached    length=${LENGTH}
    The Guest Should Be Unharmed    devices=2

A Device Is Detached From The Next Start
    [Documentation]    The guest boots without it, and its bytes stay in its namespace.
    [Tags]    hp-03
    Destroy Guest    ${GUEST}
    Detach Vpmem Device    ${GUEST}    ${SECOND}
    Start Guest    ${GUEST}
    The Guest Should Be Unharmed    devices=1
    Pattern Should Be Intact    ${SECOND}    seed=attached    length=${LENGTH}


*** Keywords ***
Boot A Guest With Two Spare Slots
    [Documentation]    A guest that has a device with a pattern, and the namespaces to attach to it.
    Take A Host
    ${size} =    Get Smallest Size    64MiB
    VAR    ${SPARE} =    ${{type($size)(3 * $size)}}    scope=SUITE
    FOR    ${name}    IN    first    second    third    fourth
        ${namespace} =    Create Devdax Namespace    ${size}    ${name}
        VAR    ${${name}} =    ${namespace}    scope=SUITE
    END
    ${large} =    Create Devdax Namespace    ${{4 * $size}}    large
    VAR    ${LARGE} =    ${large}    scope=SUITE
    ${guest} =    Start New Guest    vpmem=${FIRST}    spare_slots=2    spare_memory=${SPARE}
    VAR    ${GUEST} =    ${guest}    scope=SUITE
    Write Pattern In Guest    ${GUEST}    ${FIRST}    seed=${SEED}    length=${LENGTH}

The Guest Should Be Unharmed
    [Documentation]    Its kernel has so many regions, and its first device the bytes that it wrote at the start.
    [Arguments]    ${devices}
    ${regions} =    Get Guest Regions    ${GUEST}
    Length Should Be    ${regions}    ${devices}
    Guest Pattern Should Be Intact    ${GUEST}    ${FIRST}    seed=${SEED}    length=${LENGTH}
