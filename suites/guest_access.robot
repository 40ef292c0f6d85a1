*** Settings ***
Documentation     The devices that a guest's QEMU can access on its host. No two guests share a device by accident.

Resource          ../resources/guest.resource

Suite Setup       Boot A Guest Beside Another Namespace
Suite Teardown    Give The Host Back

Test Tags         smoke


*** Test Cases ***
A Guest Can Access Its Own Device And No Other
    [Documentation]    The test tries the access as the guest's QEMU, with its user, profile, control group and mount
    ...    namespace.
    [Tags]    sc-01
    ${confinement} =    Get Confinement Or Skip
    Should Be True    ${confinement.enforced}
    Should Not Be Equal As Integers    ${confinement.user}    0
    Guest Should Reach Only Its Own Devices    ${GUEST}

The Profile Of A Guest Names Its Device And No Other
    [Documentation]    The rules that libvirt wrote for the kernel contain only the device of this guest.
    [Tags]    sc-01
    ${confinement} =    Get Confinement Or Skip
    ${rules} =    Get Output Of Host    cat    /etc/apparmor.d/libvirt/${confinement.profile}.files
    Should Contain    ${rules}    "${NAMESPACE.device}" rw
    Should Not Contain    ${rules}    "${NEIGHBOUR.device}"

An Unconfined Guest Has No Profile
    [Documentation]    The user, mount namespace and control group of the guest's QEMU still keep it from other devices.
    [Tags]    sc-01
    ${unconfined} =    Start New Guest    vpmem=${NEIGHBOUR}    confined=False
    ${confinement} =    Get Guest Confinement    ${unconfined}
    Should Be Empty    ${confinement.profile}
    Should Not Be Equal As Integers    ${confinement.user}    0
    Guest Should Reach Only Its Own Devices    ${unconfined}
    Stop Guest    ${unconfined}    how=destroy
    Undefine Guest    ${unconfined}

A Device Of A Running Guest Is Refused To Another Guest
    [Documentation]    The device is refused by its path and by a link to it. No guest is created.
    [Tags]    sc-02
    Run Keyword And Expect Error    *no running guest uses*    Define Guest    vpmem=${NAMESPACE}    name=intruder
    Run On Host    ln    -s    ${NAMESPACE.device}    /run/vpmem-by-another-name
    ${link} =    New Vpmem Device    /run/vpmem-by-another-name    size=${NAMESPACE.size}
    Run Keyword And Expect Error    *no running guest uses*as ${NAMESPACE.device}*
    ...    Define Guest    vpmem=${link}    name=intruder
    ${guests} =    Get Guests
    Should Not Contain    ${guests}    intruder
    [Teardown]    Run On Host    rm    -f    /run/vpmem-by-another-name

A Guest Defined Earlier Does Not Start If Its Device Is In Use
    [Documentation]    The other guest got the device after this guest was defined.
    [Tags]    sc-02
    ${waiting} =    Define Guest    vpmem=${NEIGHBOUR}
    Attach Vpmem Device    ${GUEST}    ${NEIGHBOUR}    persistent=False
    Run Keyword And Expect Error    *no running guest uses*    Start Guest    ${waiting}
    Get Guest State    ${waiting}    ==    shut off
    Undefine Guest    ${waiting}

Two Guests Share A Device If The Call Allows It
    [Documentation]    One guest writes, and the other guest reads the same bytes.
    [Tags]    sc-02
    ${second} =    Start New Guest    vpmem=${NAMESPACE}    share_backing=True
    Write Pattern In Guest    ${GUEST}    ${NAMESPACE}    seed=for both    length=4MiB
    Guest Pattern Should Be Intact    ${second}    seed=for both    length=4MiB
    Stop Guest    ${second}    how=destroy


*** Keywords ***
Boot A Guest Beside Another Namespace
    [Documentation]    Boot a confined guest on one namespace. No guest uses the second namespace.
    Boot A Guest On One Namespace    64MiB    confined=True

Get Confinement Or Skip
    [Documentation]    Return the confinement of the guest. Skip if the host confines guests by no AppArmor profile.
    ${confinement} =    Get Guest Confinement    ${GUEST}
    Skip If    not $confinement.profile
    ...    The host confines guests by no AppArmor profile: enable AppArmor to run this test.
    RETURN    ${confinement}
