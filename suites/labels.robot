*** Settings ***
Documentation     Labels, which describe namespaces on their DIMMs. Their bytes, the kernel's own count and the content
...               of the namespaces confirm them. The suite changes the labels of one empty region, and restores them
...               byte for byte.

Library           Collections
Resource          ../resources/host.resource

Suite Setup       Take A Host And A Region For Labels
Suite Teardown    Give The Host Back
Test Teardown     Put The Labels Back


*** Variables ***
${REGION}         ${None}
${WHY_NONE}       ${EMPTY}
${BARE}           ${None}
${BEFORE}         ${OUTPUT_DIR}/before.labels
${SAVED}          ${OUTPUT_DIR}/saved.labels
# Run 00000000 made this namespace.
${OTHERS_UUID}    76706d65-6d00-8000-8000-b5c6d7e8f901


*** Test Cases ***
Labels Restored From A File Bring A Namespace Back
    [Documentation]    Zeroing the labels removes the namespace but not its bytes. Restoring the labels brings it back.
    [Tags]    lb-01
    [Setup]    Skip Unless There Is A Region For Labels
    Empty The Label Area
    Initialize Labels    ${REGION}
    ${namespace} =    Create Namespace With A Pattern    ${CONTENT_MODE}
    Save Labels    ${REGION}    ${SAVED}
    Zero Labels    ${REGION}
    Namespace Should Not Exist    ${namespace}
    Get Region Property    ${REGION}    available size    ==    ${REGION.size}
    Restore Labels    ${REGION}    ${SAVED}
    Namespace With Pattern Should Be As Before    ${namespace}

Labels Written Back Bring Namespaces Of Every Mode Back
    [Documentation]    The labels that were read are written again, after different labels were in the area.
    [Tags]    lb-01
    [Setup]    Skip Unless There Is A Region For Labels
    VAR    @{namespaces} =    @{EMPTY}
    FOR    ${mode}    IN    @{CONTENT_MODES}
        ${namespace} =    Create Namespace With A Pattern    ${mode}
        Collections.Append To List    ${namespaces}    ${namespace}
    END
    ${labels} =    Read Labels    ${REGION}
    Initialize Labels    ${REGION}    overwrite=True
    Get Region Property    ${REGION}    available size    ==    ${REGION.size}
    Write Labels    ${REGION}    @{labels}
    FOR    ${namespace}    IN    @{namespaces}
        Namespace With Pattern Should Be As Before    ${namespace}
    END

Each Label Version Has The Predicted Slot Count
    [Documentation]    The index block, its bytes and the kernel's own count agree with the prediction from the area's
    ...    size.
    [Tags]    lb-02
    [Setup]    Skip Unless There Is A Region For Labels
    ${size} =    Get Region Property    ${REGION}    label area size
    FOR    ${version}    IN    1.1    1.2
        Initialize Labels    ${REGION}    version=${version}    overwrite=True
        ${slots} =    Get Predicted Label Slot Count    ${size}    version=${version}
        Get Region Property    ${REGION}    label version    ==    ${version}
        Get Region Property    ${REGION}    label slots    ==    ${slots}
        All Label Slots But One Should Be Free    ${slots}
        Slots In The Bytes Should Be    ${slots}
    END

Labels Of Both Versions Match The Listing Of ndctl
    [Documentation]    The bytes of each label contain the UUID, name, size and claim class. The kernel counts the
    ...    label.
    [Tags]    lb-02
    [Setup]    Skip Unless There Is A Region For Labels
    VAR    &{claims_1_1} =    devdax=${EMPTY}    sector=${EMPTY}
    VAR    &{claims_1_2} =    devdax=dax    sector=btt2    fsdax=pfn    raw=${EMPTY}
    FOR    ${version}    ${claims}    IN    1.1    ${claims_1_1}    1.2    ${claims_1_2}
        Initialize Labels    ${REGION}    version=${version}    overwrite=True
        FOR    ${mode}    ${claim}    IN    &{claims}
            ${size} =    Get Smallest Namespace Size    ${REGION}    at_least=64MiB
            ${namespace} =    Create Namespace    ${REGION}    mode=${mode}    size=${size}    name=of-${mode}
            Label Should Describe    ${namespace}    ${size}    claimed_by=${claim}
            Destroy Namespace    ${namespace}
        END
    END

Every Broken Label Is Named
    [Documentation]    A label with a changed byte removes its namespace. The error gives the reason, and the neighbour
    ...    does not change.
    [Tags]    lb-02
    [Setup]    Skip Unless There Is A Region For Labels
    ${broken} =    Create Namespace    ${REGION}    mode=raw    size=at least 16MiB    name=broken
    ${sound} =    Create Namespace With A Pattern    ${CONTENT_MODE}
    Labels Should Be Consistent    ${REGION}
    ${labels} =    Read Labels    ${REGION}
    Write Labels With A Changed Byte    ${labels}    broken
    Namespace Should Not Exist    ${broken}
    Run Keyword And Expect Error    *label in slot ?: its checksum is 0x*    Labels Should Be Consistent    ${REGION}
    Namespace With Pattern Should Be As Before    ${sound}
    Write Labels    ${REGION}    @{labels}
    Namespace Should Exist    ${broken}

A Disabled Region Comes Back With Its Namespaces
    [Documentation]    A disabled region has no driver, and its namespace has no node. Enabling restores both.
    [Tags]    lb-03
    [Setup]    Skip Unless There Is A Region For Labels
    ${namespace} =    Create Namespace With A Pattern    ${CONTENT_MODE}
    Disable Region    ${REGION}
    Get Region Property    ${REGION}    state    ==    disabled
    Kernel Should Have Enabled    ${REGION}    ${False}
    Run On Host    test    -e    ${namespace.device}    expected_status=1
    Enable Region    ${REGION}
    Kernel Should Have Enabled    ${REGION}    ${True}
    Namespace With Pattern Should Be As Before    ${namespace}

An Enable That Fails With Exit Status 0 Is A Failure
    [Documentation]    A region with labels cannot be enabled without its DIMM. ndctl reports this on stderr and exits
    ...    0.
    [Tags]    lb-03
    [Setup]    Skip Unless There Is A Region For Labels
    Disable Every Region On The DIMMs
    Disable Dimm    ${REGION.dimms}[0]
    Run Keyword And Expect Error    *exit status: 0*enabled 0 regions*    Enable Region    ${REGION}
    Kernel Should Have Enabled    ${REGION}    ${False}
    Enable Dimm    ${REGION.dimms}[0]
    Enable Every Region On The DIMMs
    Kernel Should Have Enabled    ${REGION}    ${True}

A Region With Foreign Namespaces Is Not Changed
    [Documentation]    Each keyword that would remove a namespace of another run refuses. No byte changes.
    [Tags]    lb-03
    [Setup]    Skip Unless There Is A Region For Labels
    Create Namespace Of Another Run    others
    ${labels} =    Read Labels    ${REGION}
    FOR    ${keyword}    IN    Disable Region    Zero Labels
        Should Be Refused    ${keyword}    ${REGION}
    END
    Should Be Refused    Initialize Labels    ${REGION}    overwrite=True
    Should Be Refused    Write Labels    ${REGION}    @{labels}
    Should Be Refused    Restore Labels    ${REGION}    ${BEFORE}
    ${after} =    Read Labels    ${REGION}
    Should Be Equal    ${after}    ${labels}
    [Teardown]    Put The Labels Back    foreign=True

A Region Without Labels Refuses Label Operations
    [Documentation]    Creating a namespace and reading labels are refused. No refusal changes the region.
    [Tags]    lb-04
    [Setup]    Take A Writable Region Without Labels Or Skip
    Get Region Property    ${BARE}    label state    ==    unlabeled
    Run Keyword And Expect Error    *${BARE.dev}*has no labels*initialize_labels*
    ...    Create Namespace    ${BARE}    mode=devdax    size=at least 64MiB
    Run Keyword And Expect Error    *${BARE.dev}*no labels to zero*    Zero Labels    ${BARE}
    FOR    ${property}    IN    label version    label slots
        Run Keyword And Expect Error    *${BARE.dev}*has no labels*initialize_labels*
        ...    Get Region Property    ${BARE}    ${property}
    END
    Run Keyword And Expect Error
    ...    *no labels: the label area is all zeros*
    ...    Labels Should Be Consistent
    ...    ${BARE}
    Label Area Should Be All Zeros    ${BARE}
    [Teardown]    Region Should Be As Before    ${BARE}

A Region Without Labels Is Disabled And Enabled
    [Documentation]    Its single raw namespace fills it before and after.
    [Tags]    lb-04
    [Setup]    Take A Region Without Labels That May Be Changed Or Skip
    Disable Region    ${BARE}
    Kernel Should Have Enabled    ${BARE}    ${False}
    Enable Region    ${BARE}
    Kernel Should Have Enabled    ${BARE}    ${True}
    [Teardown]    Region Should Be As Before    ${BARE}


*** Keywords ***
Take A Host And A Region For Labels
    [Documentation]    Take a host, choose an empty region whose labels may be changed, and save its labels in a file.
    Take A Host
    TRY
        ${found} =    Get Region For Labels
        Save Labels    ${found}    ${BEFORE}
        VAR    ${REGION} =    ${found}    scope=SUITE
        Set Content Modes    ${found}
    EXCEPT    *may not be changed*    *labels but no namespaces*    type=GLOB    AS    ${reason}
        VAR    ${WHY_NONE} =    ${reason}    scope=SUITE
    END

Empty The Label Area
    [Documentation]    Zero the labels, and check every byte. The label area of a CXL region may be all zeros before.
    Initialize Labels    ${REGION}    overwrite=True
    Zero Labels    ${REGION}
    Label Area Should Be All Zeros    ${REGION}

Skip Unless There Is A Region For Labels
    [Documentation]    Skip with the reason if there is no such region.
    Skip If    not $REGION    ${WHY_NONE}

Put The Labels Back
    [Documentation]    Leave the region enabled and empty, with its original label bytes.
    [Arguments]    ${foreign}=${False}
    IF    not $REGION    RETURN
    FOR    ${dimm}    IN    @{REGION.dimms}
        Enable Dimm    ${dimm}
    END
    Enable Every Region On The DIMMs
    Restore Labels    ${REGION}    ${BEFORE}    foreign=${foreign}
    Region Should Be As Before    ${REGION}

Disable Every Region On The DIMMs
    [Documentation]    Disable the chosen region and every other region on its DIMMs: a DIMM is active until then.
    @{regions} =    Get Regions On The DIMMs
    FOR    ${each}    IN    @{regions}
        Disable Region    ${each}
    END

Enable Every Region On The DIMMs
    [Documentation]    Enable the chosen region and every other region on its DIMMs.
    @{regions} =    Get Regions On The DIMMs
    FOR    ${each}    IN    @{regions}
        Enable Region    ${each}
    END

Get Regions On The DIMMs
    [Documentation]    Return the chosen region and every other region on its DIMMs. Interleaved regions share DIMMs.
    ${regions} =    Get Regions
    ${sharing} =    Get Records That Share    ${regions}    dimms    ${REGION.dimms}
    RETURN    ${sharing}

Take A Region Without Labels Or Skip
    [Documentation]    Choose a region on which the kernel found no labels. Skip if there is none.
    VAR    ${BARE} =    ${None}    scope=SUITE
    ${regions} =    Get Unlabeled Regions
    Skip If
    ...    not $regions
    ...    No region has had an empty label area since the boot: zero that of one and reboot, or reset the lab host.
    VAR    ${BARE} =    ${regions}[0]    scope=SUITE

Take A Writable Region Without Labels Or Skip
    [Documentation]    Choose a region without labels that is not read-only. Skip if there is none.
    Take A Region Without Labels Or Skip
    ${regions} =    Get Unlabeled Regions
    FOR    ${region}    IN    @{regions}
        ${read_only} =    Get Output Of Host    cat    /sys/bus/nd/devices/${region.dev}/read_only
        IF    $read_only == '0'
            VAR    ${BARE} =    ${region}    scope=SUITE
            RETURN
        END
    END
    Skip
    ...    Every region without labels is read-only: zero the labels of another region and reboot, or use another host.

Take A Region Without Labels That May Be Changed Or Skip
    [Documentation]    Choose a region without labels. Skip if the host's regions may not be changed.
    Skip If    'may not be changed' in $WHY_NONE    ${WHY_NONE}
    Take A Region Without Labels Or Skip

Write Labels With A Changed Byte
    [Documentation]    Write the labels with one changed byte in this name on each DIMM. The kernel enables no region
    ...    whose namespace has a label on only some of its DIMMs.
    [Arguments]    ${labels}    ${name}
    VAR    @{changed} =    @{EMPTY}
    FOR    ${area}    IN    @{labels}
        VAR    ${bytes} =    ${{$area.data.replace($name.encode(), $name[:-1].encode() + b'm')}}
        Collections.Append To List    ${changed}    ${bytes}
    END
    Write Labels    ${REGION}    @{changed}

Create Namespace Of Another Run
    [Documentation]    Create a raw namespace with the mark of another run, with the host's own ndctl.
    [Arguments]    ${name}
    ${size} =    Get Smallest Namespace Size    ${REGION}
    ${bytes} =    Get Size In Bytes    ${size}
    Run On Host    ndctl    create-namespace    --region    ${REGION.dev}    --mode    raw    --size    ${bytes}
    ...    --uuid    ${OTHERS_UUID}    --name    ${name}

Create Namespace With A Pattern
    [Documentation]    Create a namespace in the chosen region, and write a pattern to its first bytes.
    [Arguments]    ${mode}
    ${namespace} =    Create Namespace    ${REGION}    mode=${mode}    size=at least 16MiB    name=of-${mode}
    Write Pattern    ${namespace}    seed=of-${mode}    length=256KiB
    RETURN    ${namespace}

All Label Slots But One Should Be Free
    [Documentation]    Compare the number of free slots with the number of slots. One slot is always reserved.
    [Arguments]    ${slots}
    Get Region Property    ${REGION}    available label slots    ==    ${{$slots - 1}}

Label Should Describe
    [Documentation]    Fail unless the only label of the region matches ndctl's listing of a namespace.
    [Arguments]    ${namespace}    ${size}    ${claimed_by}
    ${areas} =    Read Labels    ${REGION}
    VAR    ${label} =    ${areas[0].labels[0]}
    Length Should Be    ${areas[0].labels}    1
    Should Be Equal    ${label.uuid}    ${namespace.label_uuid}
    Should Be Equal    ${label.name}    ${namespace.name}
    Should Be Equal As Integers    ${{$label.rawsize * len($areas)}}    ${size}
    Should Be Equal    ${label.abstraction}    ${claimed_by}
    Get Region Property    ${REGION}    available label slots    ==    ${{$areas[0].nslot - 2}}

Label Area Should Be All Zeros
    [Documentation]    Read the area with ndctl, and fail on any byte that is not zero.
    [Arguments]    ${region}
    FOR    ${dimm}    IN    @{region.dimms}
        ${other} =    Run Script On Host    count_label_bytes_other_than_zero.sh    ${dimm}
        Should Be Equal As Integers    ${other}    0
    END

Slots In The Bytes Should Be
    [Documentation]    Read each DIMM's area with ndctl, and compare the slot count of the first block, at byte 56.
    [Arguments]    ${slots}
    FOR    ${dimm}    IN    @{REGION.dimms}
        ${found} =    Run Script On Host    print_label_slot_count.sh    ${dimm}
        Should Be Equal As Integers    ${found}    ${slots}
    END

Kernel Should Have Enabled
    [Documentation]    Fail unless the kernel's own driver has the region, or does not have it, as `enabled` says.
    [Arguments]    ${region}    ${enabled}
    Run On Host    test    -e    /sys/bus/nd/drivers/nd_region/${region.dev}
    ...    expected_status=${{0 if $enabled else 1}}

Should Be Refused
    [Documentation]    Run a keyword, and fail unless it refuses because of the namespace of another run.
    [Arguments]    ${keyword}    @{arguments}    &{options}
    Run Keyword And Expect Error    *others*not this run's own: run 00000000 made it*foreign=True*
    ...    ${keyword}    @{arguments}    &{options}
