*** Settings ***
Documentation     NUMA nodes of the namespace on the host and of the device in the guest.

Resource          ../resources/guest.resource

Suite Setup       Boot A Guest With A Device On The Second Node
Suite Teardown    Give The Host Back


*** Test Cases ***
A Device Is On The Requested Node
    [Documentation]    The host's region, libvirt's XML, QEMU and the guest's kernel name the same node.
    [Tags]    nu-01
    Should Be Equal As Integers    ${NAMESPACE.numa_node}    1
    ${node} =    Get Output Of Host    cat    /sys/bus/nd/devices/${NAMESPACE.region}/numa_node
    Should Be Equal As Integers    ${node}    1
    ${devices} =    Get Guest Devices    ${GUEST}
    Should Be Equal As Integers    ${devices[0].node}    1
    ${regions} =    Get Guest Regions    ${GUEST}
    Should Be Equal As Integers    ${regions[0].numa_node}    1
    All Views Should Agree    ${GUEST}

A Node That The Guest Does Not Have Is Refused
    [Documentation]    The error names the nodes of the guest. No guest is created.
    [Tags]    nu-02
    ${device} =    New Vpmem Device    ${OTHER}    node=2
    Run Keyword And Expect Error    *node of ${OTHER.device} 2 cannot be used*0 to 1*
    ...    Define Guest    vpmem=${device}    numa_cells=2    name=beyond
    Run Keyword And Expect Error    *node of ${OTHER.device} 2 cannot be used*0 to 1*
    ...    Attach Vpmem Device    ${GUEST}    ${device}
    ${guests} =    Get Guests
    Should Not Contain    ${guests}    beyond
    All Views Should Agree    ${GUEST}


*** Keywords ***
Boot A Guest With A Device On The Second Node
    [Documentation]    Boot a guest with two NUMA nodes whose device is backed by a namespace of the host's second node.
    Take A Fitting Host Or Skip    mapping    labels
    ${region} =    Get A Region Of The Second Node Or Skip
    ${namespace} =    Create Devdax Namespace    64MiB    far    region=${region}
    ${other} =    Create Devdax Namespace    64MiB    other
    ${device} =    New Vpmem Device    ${namespace}    node=1
    ${guest} =    Start New Guest    vpmem=${device}    numa_cells=2
    VAR    ${NAMESPACE} =    ${namespace}    scope=SUITE
    VAR    ${OTHER} =    ${other}    scope=SUITE
    VAR    ${GUEST} =    ${guest}    scope=SUITE

Get A Region Of The Second Node Or Skip
    [Documentation]    Return a region of node 1 with enough room. Skip the suite if the host has none.
    ${regions} =    Get Regions    numa_node=1
    Skip If    not $regions    No region of the host is on NUMA node 1: take a host that has one.
    ${region} =    Get Region With Room    at_least=64MiB    numa_node=1
    RETURN    ${region}
