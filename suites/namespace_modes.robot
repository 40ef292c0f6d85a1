*** Settings ***
Documentation     Namespaces as ndctl makes them, proven by sysfs and the device node rather than by ndctl's own word.

Resource          ../resources/host.resource

Suite Setup       Take A Host
Suite Teardown    Give The Host Back
Test Setup        Choose A Region
Test Teardown     Clean Up Host

Test Tags         smoke


*** Test Cases ***
Namespaces Of Every Mode Agree In Every View
    [Documentation]    Mode, size and node of each mode as ndctl, sysfs and the device node have them.
    [Tags]    ns-01
    FOR    ${mode}    IN    fsdax    devdax    sector    raw
        ${namespace} =    Create Namespace    ${REGION}    mode=${mode}    size=${SIZE}    name=of-${mode}
        Get Namespace Mode    ${namespace}    ==    ${mode}
        Namespace Views Should Agree    ${namespace}
        Destroy Namespace    ${namespace}
    END

Usable Sizes Are The Predicted Ones
    [Documentation]    What ndctl leaves of a namespace in each mode is what the library predicts, to the byte.
    [Tags]    ns-01
    FOR    ${mode}    IN    fsdax    devdax    sector    raw
        ${namespace} =    Create Namespace    ${REGION}    mode=${mode}    size=${SIZE}
        ${predicted} =    Get Predicted Usable Size    ${SIZE}    mode=${mode}
        Get Namespace Size    ${namespace}    ==    ${predicted}
        Destroy Namespace    ${namespace}
    END

Several Namespaces Share A Region And Give It All Back
    [Documentation]    Three named namespaces are all visible, take what they say, and leave the region as it was.
    [Tags]    ns-02
    VAR    &{modes} =    one=devdax    two=fsdax    three=raw
    ${before} =    Get Region Available Size    ${REGION}
    VAR    ${free} =    ${before}
    FOR    ${name}    ${mode}    IN    &{modes}
        Create Namespace    ${REGION}    mode=${mode}    size=${SIZE}    name=${name}
        Get Region Available Size    ${REGION}    ==    ${{$free - $SIZE}}
        ${free} =    Get Region Available Size    ${REGION}
    END
    FOR    ${name}    IN    @{modes}
        Namespace Should Exist    ${name}
        Destroy Namespace    ${name}
        Namespace Should Not Exist    ${name}
    END
    Get Region Available Size    ${REGION}    ==    ${before}

An Unaligned Size Is Refused With The Sizes On Either Side
    [Documentation]    A size that is no multiple of the region's step: both neighbours are named and nothing is made.
    [Tags]    ns-03
    ${before} =    Get Region Available Size    ${REGION}
    ${step} =    Get Region Size Step    ${REGION}
    ${below}    ${above} =    Evaluate    type($step)(16 * $step), type($step)(17 * $step)
    Run Keyword And Expect Error    *a multiple of ${step}, *: ${below} or ${above}*
    ...    Create Namespace    ${REGION}    mode=devdax    size=${{16 * $step + 1000}}    name=unaligned
    Namespace Should Not Exist    unaligned
    Get Region Available Size    ${REGION}    ==    ${before}

Destroying One Namespace Leaves Its Neighbours Every Byte
    [Documentation]    Three patterned namespaces; the middle one goes; the others still hold their patterns whole.
    [Tags]    ns-09
    ${left} =    Create Namespace    ${REGION}    mode=devdax    size=${SIZE}    name=left
    ${middle} =    Create Namespace    ${REGION}    mode=devdax    size=${SIZE}    name=middle
    ${right} =    Create Namespace    ${REGION}    mode=raw    size=${SIZE}    name=right
    FOR    ${namespace}    IN    ${left}    ${middle}    ${right}
        Write Pattern    ${namespace}    seed=${namespace.name}
    END
    Destroy Namespace    ${middle}
    Namespace Should Not Exist    middle
    Pattern Should Be Intact    ${left}    seed=left
    Pattern Should Be Intact    ${right}    seed=right


*** Keywords ***
Choose A Region
    [Documentation]    Picks the region with the largest free extent.
    ${region} =    Get Roomiest Region    at_least=256MiB
    ${size} =    Get Smallest Namespace Size    ${region}    at_least=64MiB
    VAR    ${REGION} =    ${region.dev}    scope=SUITE
    VAR    ${SIZE} =    ${size}    scope=SUITE
