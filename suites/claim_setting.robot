*** Settings ***
Documentation     The setting of labels by which namespaces are claimed. It has the syntax of Nova's `pmem_namespaces`.
...
...               The library refuses every setting that Nova refuses, and every setting that Nova accepts and
...               that makes it fail later. Each mistake has a specific message, and the setting stays as it was.

Resource          ../resources/host.resource

Suite Setup       Make Namespaces Of Every Kind
Suite Teardown    Give The Host Back

Test Tags         cl-01


*** Variables ***
${GOOD}    4GB:ns_0,SMALL:ns_1|ns_2


*** Test Cases ***
Names Are Mapped To The Namespaces Of The Host
    [Documentation]    The map of labels to devices is the map that Nova's own test expects.
    ${found} =    Set Pmem Namespaces    ${GOOD}
    Label Should Have Namespaces    ${found}[4GB]    ns_0
    Get Pmem Total    4GB    ==    1
    Label Should Have Namespaces    ${found}[SMALL]    ns_1    ns_2
    Get Pmem Total    SMALL    ==    2
    FOR    ${namespace}    IN    @{found}[SMALL]
        ${size} =    Get Output Of Host    cat    /sys/bus/dax/devices/${namespace.chardev}/size
        Should Be Equal As Integers    ${size}    ${namespace.size}
        Run On Host    test    -c    ${namespace.device}
    END

A Malformed Setting Is Refused
    [Documentation]    Each mistake has a specific message. The library needs no host to find the mistake.
    [Template]    Setting Should Be Refused
    ns_0    'ns_0' cannot be used: expected a label, a colon and names
    4GB:ns_0,    item '' of pmem_namespaces '4GB:ns_0,' cannot be used: expected a label, a colon
    :ns_0    a label before the colon
    4GB:    a name on each side of `|` and after the colon
    SMALL:ns_1|    a name on each side of `|` and after the colon
    4GB:ns_0,SMALL:ns_0    each namespace once: 'ns_0' is there 2 times (4GB, SMALL)
    4GB:ns_0|ns_0    each namespace once: 'ns_0' is there 2 times (4GB)
    a-b:ns_0,a_b:ns_1    both are resource class CUSTOM_PMEM_NAMESPACE_A_B
    small:ns_0,SMALL:ns_1    both are resource class CUSTOM_PMEM_NAMESPACE_SMALL

A Setting With An Unusable Namespace Is Refused
    [Documentation]    Each mistake has a specific message, which names the namespace.
    [Template]    Setting Should Be Refused
    4GB:absent    No namespace 'absent' on *There are: *ns_0, ns_1, ns_2
    SMALL:ns_1 | ns_2    In pmem_namespaces blanks are part of a name: write 'ns_1'
    4GB:twins    2 namespaces on * are called 'twins'
    4GB:file_system    namespace file_system of label 4GB 'fsdax' cannot be used: expected mode devdax
    4GB:blocks    namespace blocks of label 4GB 'sector' cannot be used: expected mode devdax
    4GB:bytes    namespace bytes of label 4GB 'raw' cannot be used: expected mode devdax
    4GB:off    'disabled' cannot be used: expected an active devdax namespace

A Repeated Label Combines Its Namespaces
    [Documentation]    Nova does the same.
    Set Pmem Namespaces    SMALL:ns_1,4GB:ns_0,SMALL:ns_2
    Get Pmem Total    SMALL    ==    2

An Empty Setting Is Off And Does Not Run ndctl
    [Documentation]    On a host whose ndctl fails, an empty setting is accepted. Any other setting fails with the
    ...    reason.
    Look At The Host Where Program Fails    ndctl
    ${found} =    Set Pmem Namespaces    ${EMPTY}
    Should Be Empty    ${found}
    Run Keyword And Expect Error    *exit status: 1*pmem_namespaces needs the namespaces of changed*
    ...    Set Pmem Namespaces    ${GOOD}
    [Teardown]    Look At The Host Itself

A Missing ndctl Is Reported
    [Documentation]    The error does not report a missing namespace.
    Look At The Host Without    ndctl
    Run Keyword And Expect Error    *Permission denied*ndctl is installed there*    Set Pmem Namespaces    ${GOOD}
    [Teardown]    Look At The Host Itself

A Foreign Namespace Is Refused Unless The Call Allows It
    [Documentation]    The library writes to claimed namespaces and wipes them.
    Create Foreign Namespace
    Run Keyword And Expect Error    *is not this run's own*written to and wiped*    Set Pmem Namespaces    4GB:foreign
    Set Pmem Namespaces    4GB:foreign    foreign=True
    Get Pmem Total    4GB    ==    1
    [Teardown]    Remove The Foreign Namespace


*** Keywords ***
Make Namespaces Of Every Kind
    [Documentation]    Take a host. Create three valid namespaces as in Nova's test, and one namespace of each kind that
    ...    is invalid.
    Take A Fitting Host Or Skip    mapping    labels
    Create Pmem Namespaces    ${GOOD}    4GB=at least 32MiB    SMALL=at least 16MiB
    FOR    ${name}    ${mode}    IN
    ...    file_system    fsdax    blocks    sector    bytes    raw    twins    devdax    off    devdax
        ${region} =    Get Region With Room    at_least=32MiB
        Create Namespace    ${region}    mode=${mode}    size=at least 32MiB    name=${name}
    END
    ${region} =    Get Region With Room    at_least=32MiB
    Create Namespace    ${region}    mode=devdax    size=at least 16MiB    name=twins
    Create Namespace    ${region}    mode=devdax    size=at least 16MiB
    Disable Namespace    off

Setting Should Be Refused
    [Documentation]    Fail unless the setting is refused with its message. The previous setting must stay.
    [Arguments]    ${setting}    ${message}
    Set Pmem Namespaces    ${GOOD}
    Run Keyword And Expect Error    *${message}*    Set Pmem Namespaces    ${setting}
    Get Pmem Total    SMALL    ==    2

Label Should Have Namespaces
    [Documentation]    Fail unless a label has the namespaces with these names, in this order.
    [Arguments]    ${namespaces}    @{names}
    ${found} =    Get Field Of Each    ${namespaces}    name
    Should Be Equal    ${found}    ${names}

Remove The Foreign Namespace
    [Documentation]    Destroy the foreign namespace, which was created for this test.
    Set Pmem Namespaces    ${EMPTY}
    Destroy Namespace    foreign    foreign=True
