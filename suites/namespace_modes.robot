*** Settings ***
Documentation     The namespaces that ndctl creates. sysfs and the device node confirm them, not only ndctl.

Resource          ../resources/host.resource

Suite Setup       Take A Host
Suite Teardown    Give The Host Back
Test Setup        Choose A Region And A Size
Test Teardown     Clean Up Host

Test Tags         smoke


*** Test Cases ***
Namespaces Of Every Mode Agree In Every View
    [Documentation]    ndctl, sysfs and the device node agree on the mode, size and node of each mode.
    [Tags]    ns-01
    FOR    ${mode}    IN    fsdax    devdax    sector    raw
        ${namespace} =    Create Namespace    ${REGION}    mode=${mode}    size=${SIZE}    name=of-${mode}
        Get Namespace Property    ${namespace}    mode    ==    ${mode}
        Namespace Views Should Agree    ${namespace}
        Destroy Namespace    ${namespace}
    END

Usable Sizes Are As Predicted
    [Documentation]    The library predicts the usable size of a namespace in each mode to the byte.
    [Tags]    ns-01
    FOR    ${mode}    IN    fsdax    devdax    sector    raw
        ${namespace} =    Create Namespace    ${REGION}    mode=${mode}    size=${SIZE}
        ${predicted} =    Get Predicted Usable Size    ${SIZE}    mode=${mode}    region=${REGION}
        Get Namespace Property    ${namespace}    size    ==    ${predicted}
        Destroy Namespace    ${namespace}
    END

Several Namespaces Share A Region And Return Its Whole Capacity
    [Documentation]    Three named namespaces are visible, use their sizes, and leave the region as it was.
    [Tags]    ns-02
    VAR    &{modes} =    one=devdax    two=fsdax    three=raw
    ${before} =    Get Region Property    ${REGION}    available size
    VAR    ${free} =    ${before}
    FOR    ${name}    ${mode}    IN    &{modes}
        Create Namespace    ${REGION}    mode=${mode}    size=${SIZE}    name=${name}
        ${free} =    Subtract Size    ${free}    ${SIZE}
        Get Region Property    ${REGION}    available size    ==    ${free}
    END
    FOR    ${name}    IN    @{modes}
        Namespace Should Exist    ${name}
        Destroy Namespace    ${name}
        Namespace Should Not Exist    ${name}
    END
    Get Region Property    ${REGION}    available size    ==    ${before}

An Unaligned Size Is Refused With The Nearest Valid Sizes
    [Documentation]    The size is not a multiple of the region's step. The error names both nearest sizes, and nothing
    ...    is created.
    [Tags]    ns-03
    ${before} =    Get Region Property    ${REGION}    available size
    ${step} =    Get Region Size Step    ${REGION}
    ${below} =    Multiply Size    ${step}    16
    ${unaligned} =    Add Sizes    ${below}    ${1000}
    ${above} =    Multiply Size    ${step}    17
    Run Keyword And Expect Error    *a multiple of ${step}, *: ${below} or ${above}*
    ...    Create Namespace    ${REGION}    mode=devdax    size=${unaligned}    name=unaligned
    Namespace Should Not Exist    unaligned
    Get Region Property    ${REGION}    available size    ==    ${before}

Destroying One Namespace Keeps Every Byte Of Its Neighbours
    [Documentation]    Three namespaces have patterns. The middle namespace is destroyed. The other two still have their
    ...    whole patterns.
    [Tags]    ns-09
    ${left} =    Create Namespace    ${REGION}    mode=${CONTENT_MODE}    size=${SIZE}    name=left
    ${middle} =    Create Namespace    ${REGION}    mode=${CONTENT_MODE}    size=${SIZE}    name=middle
    ${right} =    Create Namespace    ${REGION}    mode=raw    size=${SIZE}    name=right
    FOR    ${namespace}    IN    ${left}    ${middle}    ${right}
        Write Pattern    ${namespace}    seed=${namespace.name}
    END
    Destroy Namespace    ${middle}
    Namespace Should Not Exist    middle
    Pattern Should Be Intact    ${left}    seed=left
    Pattern Should Be Intact    ${right}    seed=right


*** Keywords ***
Choose A Region And A Size
    [Documentation]    Select the region with the largest free extent, and a size that it allows.
    ${chosen} =    Choose A Region    at_least=256MiB
    ${size} =    Get Smallest Namespace Size    ${chosen}    at_least=32MiB
    VAR    ${SIZE} =    ${size}    scope=SUITE
