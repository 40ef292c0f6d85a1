*** Settings ***
Documentation     The keywords for any host create labels and namespaces inside a guest's device. The namespaces survive
...               a reboot of the guest, and the host finds them in the bytes of its own namespace.
...
...               One guest with one device is booted once and shared by the tests.

Resource          ../resources/guest.resource

Suite Setup       Boot A Guest And Open It As A Host
Suite Teardown    Give The Host Back
Test Setup        Make Namespaces Of Three Modes In The Guest

Test Tags         gb-02


*** Variables ***
# With a label area of 128KiB this leaves a region of 256MiB. Namespaces of every mode fit in such a region.
${SIZE}          258MiB
${LABEL_SIZE}    128KiB
@{MADE}          @{EMPTY}


*** Test Cases ***
Labels Are Initialised In The Guest
    [Documentation]    The host reads zeros in the device's label area before, and an index block afterwards.
    [Setup]    Switch Host    inside
    Host Should Read Zeros In The Label Area
    Get Region Property    ${REGION}    available size    ==    0
    Initialize Labels    ${REGION}
    Get Region Property    ${REGION}    available size    ==    256MiB
    ${slots} =    Get Predicted Label Slot Count    ${LABEL_SIZE}
    Get Region Property    ${REGION}    label slots    ==    ${slots}
    Host Should Read In The Label Area    NAMESPACE_INDEX

Namespaces Of Three Modes Are Created In The Device
    [Documentation]    Each namespace has the predicted size to the byte, in every view of the guest's kernel.
    FOR    ${namespace}    IN    @{MADE}
        ${predicted} =    Get Predicted Usable Size    64MiB    mode=${namespace.mode}
        Get Namespace Property    ${namespace}    size    ==    ${predicted}
        Namespace Views Should Agree    ${namespace}
    END
    Get Region Property    ${REGION}    available size    ==    64MiB
    Labels Should Be Consistent    ${REGION}

The Host Reads The Guest's Labels In Its Own Namespace
    [Documentation]    The host finds the names in the label area at the predicted offset, without the guest.
    FOR    ${namespace}    IN    @{MADE}
        Host Should Read In The Label Area    ${namespace.name}
    END
    Run Keyword And Expect Error    *not contain zeros*    Host Should Read Zeros In The Label Area

Namespaces Survive A Reboot Of The Guest
    [Documentation]    The new boot of the guest's kernel finds each UUID with the same name, mode, size and content.
    ${before} =    Get Host Boot Id
    Reboot Host
    ${after} =    Get Host Boot Id
    Should Not Be Equal    ${after}    ${before}
    FOR    ${namespace}    IN    @{MADE}
        Namespace With Pattern Should Be As Before    ${namespace}    length=4MiB
    END

Namespaces Are Changed In The Guest As On A Host
    [Documentation]    A namespace is renamed, gets another mode, and is disabled and enabled. The sector metadata and
    ...    the free space are correct.
    ${namespace} =    Create Namespace    ${REGION}    mode=raw    size=at least 64MiB    name=before
    Rename Namespace    ${namespace}    after
    ${namespace} =    Reconfigure Namespace    ${namespace}    mode=fsdax
    Get Namespace Property    ${namespace}    name    ==    after
    Disable Namespace    ${namespace}
    Run On Host    test    -e    ${namespace.device}    expected_status=1
    Enable Namespace    ${namespace}
    Namespace Views Should Agree    ${namespace}
    Check Namespace    of-sector
    Region Room Views Should Agree    ${REGION}
    [Teardown]    Destroy Namespace    ${namespace}

Labels Restored From A File Bring The Namespaces Back
    [Documentation]    The guest's agent transfers the file out of the guest and back.
    Save Labels    ${REGION}    ${OUTPUT_DIR}/guest.labels
    Zero Labels    ${REGION}
    Guest Should List No Namespace
    Restore Labels    ${REGION}    ${OUTPUT_DIR}/guest.labels
    FOR    ${namespace}    IN    @{MADE}
        Namespace Should Exist    ${namespace.label_uuid}
        Pattern Should Be Intact    ${namespace}    seed=${namespace.name}    length=4MiB
    END

The Facts Of A Guest Are Not The Host's
    [Documentation]    The facts are about the guest's kernel and tools. The preflight reports what the guest does not
    ...    have.
    ${facts} =    Get Host Facts
    ${kernel} =    Get Output Of Host    uname    -r
    Should Be Equal    ${facts.kernel}    ${kernel}
    Length Should Be    ${facts.regions}    1
    Kernel Modules Should Be Loaded
    Run Keyword And Expect Error    *libvirt*    Host Should Support Vpmem

Keywords That Need Libvirt Are Refused In A Guest
    [Documentation]    A guest inside the guest is refused. The guest itself still answers.
    Run Keyword And Expect Error
    ...    *inside is guest ${GUEST}, opened as a host. The library uses no libvirt*
    ...    Start New Guest
    ${guests} =    Get Guests
    Should Be Empty    ${guests}
    Get Guest State    ${GUEST}    ==    running

Cleaning Up In The Guest Keeps The Guest
    [Documentation]    The guest's own ndctl lists no namespace of the run. The guest still runs on the same QEMU.
    ${process} =    Get Guest Process    ${GUEST}
    Clean Up Host
    Guest Should List No Namespace
    VAR    @{MADE} =    @{EMPTY}    scope=SUITE
    Get Region Property    ${REGION}    available size    ==    256MiB
    Get Guest Process    ${GUEST}    ==    ${process}
    Switch Host    ${OUTSIDE}
    Namespace Should Exist    ${NAMESPACE}


*** Keywords ***
Boot A Guest And Open It As A Host
    [Documentation]    Boot one guest with one device. Make the guest the current host.
    Take A Fitting Host Or Skip    mapping    labels
    Create A Device Without Data Of An Earlier Guest
    ${guest} =    Start New Guest    vpmem=${DEVICE}
    ${aliases} =    Get Open Hosts
    Open Guest As Host    ${guest}    alias=inside
    ${regions} =    Get Regions
    VAR    ${OUTSIDE} =    ${aliases}[0]    scope=SUITE
    VAR    ${GUEST} =    ${guest}    scope=SUITE
    VAR    ${REGION} =    ${regions}[0]    scope=SUITE

Create A Device Without Data Of An Earlier Guest
    [Documentation]    Create a device on a devdax namespace, with zeros at the places of info blocks and labels.
    ${namespace} =    Create Devdax Namespace    272MiB    inside
    ${device} =    New Vpmem Device    ${namespace}    size=${SIZE}    label_size=${LABEL_SIZE}
    ${label} =    Get Predicted Label Area Offset    ${device}
    Wipe Content    ${namespace}    length=4MiB
    Wipe Content    ${namespace}    offset=${label}    length=${LABEL_SIZE}
    VAR    ${NAMESPACE} =    ${namespace}    scope=SUITE
    VAR    ${DEVICE} =    ${device}    scope=SUITE
    VAR    ${LABEL} =    ${label}    scope=SUITE

Make Namespaces Of Three Modes In The Guest
    [Documentation]    Make the guest the current host. Create its labels and the namespaces `${MADE}`, each with a
    ...    pattern, unless they are there.
    Switch Host    inside
    ${state} =    Get Region Property    ${REGION}    label state
    IF    $state == 'unlabeled'    Initialize Labels    ${REGION}
    IF    not $MADE
        FOR    ${mode}    IN    fsdax    devdax    sector
            ${namespace} =    Create Namespace    ${REGION}    mode=${mode}    size=at least 64MiB    name=of-${mode}
            Write Pattern    ${namespace}    seed=${namespace.name}    length=4MiB
            VAR    @{MADE} =    @{MADE}    ${namespace}    scope=SUITE
        END
    END

Guest Should List No Namespace
    [Documentation]    Fail if the guest's own ndctl lists a namespace.
    ${listed} =    Get Output Of Host    ndctl    list    --namespaces
    Should Be Empty    ${listed}

Host Should Read Zeros In The Label Area
    [Documentation]    Fail unless the label area in the host's namespace contains only zeros.
    Switch Host    ${OUTSIDE}
    TRY
        Content Should Be Zero    ${NAMESPACE}    offset=${LABEL}    length=${LABEL_SIZE}
    FINALLY
        Switch Host    inside
    END

Host Should Read In The Label Area
    [Documentation]    Fail unless daxio and grep on the host find a text in the label area of the host's namespace.
    [Arguments]    ${text}
    Switch Host    ${OUTSIDE}
    TRY
        ${offset} =    Get Size In Bytes    ${LABEL}
        Run Script On Host    find_text_with_daxio.sh    ${NAMESPACE.device}    ${offset}    131072    ${text}
    FINALLY
        Switch Host    inside
    END
