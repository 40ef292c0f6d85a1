*** Settings ***
Documentation     Nova's own test of servers with vPMEM, with real namespaces and real guests.
...
...               The lease on the host, the live XML, the argv of the running QEMU, QEMU's monitor and the guest's own
...               kernel confirm each server.

Library           OperatingSystem
Library           XML
Resource          ../resources/server.resource

Suite Setup       Take A Host With Nova's Namespaces
Suite Teardown    Give The Servers Back
Test Teardown     Clean Up Servers


*** Test Cases ***
Two Servers Get One Namespace Each And A Third Fails Until A Delete
    [Documentation]    Nova's test_create_servers_with_vpmem, step by step.
    [Tags]    nv-01
    ${flavor} =    Create Flavor    small    hw:pmem=SMALL
    ${one} =    Create Server    ${flavor}    name=one
    ${two} =    Create Server    ${flavor}    name=two
    Both Should Be Active On A Namespace Each    ${one}    ${two}
    The Next Server Should Be In Error    ${flavor}    one    two
    Delete A Server That Has Written    ${one}
    ${four} =    Create Server    ${flavor}    name=four
    Both Should Be Active On A Namespace Each    ${two}    ${four}

Devices Have The Order Of The Flavor's Labels With Repeats
    [Documentation]    SMALL, 4GB, SMALL: three devices in that order in the XML, the argv, and the guest's handles.
    [Tags]    nv-05
    ${flavor} =    Create Flavor    three    hw:pmem=SMALL,4GB,SMALL
    ${server} =    Create Server    ${flavor}
    Server Should Have    ${server}    SMALL    4GB    SMALL
    Should Be Equal    ${server.claims[1].namespace.name}    ns_0
    Should Not Be Equal    ${server.claims[0].namespace.name}    ${server.claims[2].namespace.name}
    FOR    ${claim}    IN    @{server.claims}
        Write Into Server    ${server}    seed=${claim.namespace.name}    namespace=${claim.namespace}
        Host Should Hold Guest Pattern    ${server.guest}    ${claim.namespace}    seed=${claim.namespace.name}
        ...    length=4MiB
    END

A Label In The Wrong Case Is Refused
    [Documentation]    Nova schedules such a flavor and boots a server without the device. Here no server is created.
    [Tags]    nv-05
    ${flavor} =    Create Flavor    wrong-case    hw:pmem=small
    Run Keyword And Expect Error    label 'small' cannot be used: *SMALL may be meant*    Create Server    ${flavor}
    ${guests} =    Get Guests
    ${run} =    Get Run Id
    Collections.Should Not Contain Match    ${guests}    instance-${run}-*
    Get Pmem Used    SMALL    ==    0

A Server That Needs More Namespaces Than The Host Has Is In Error
    [Documentation]    The server claims none of the labels, not even the labels that are free.
    [Tags]    nv-05
    ${flavor} =    Create Flavor    too-many    hw:pmem=4GB,SMALL,SMALL,SMALL
    ${server} =    Create Server    ${flavor}
    Get Server Status    ${server}    ==    ERROR
    Should Contain    ${server.fault}    3 of label SMALL
    Get Pmem Used    4GB    ==    0

The Domain Matches Nova's Definition
    [Documentation]    libvirt gets Nova's XML for the same flavor. All memory elements of both definitions are the
    ...    same.
    [Tags]    nv-10
    ${flavor} =    Create Flavor    both    hw:pmem=4GB,SMALL
    ${server} =    Create Server    ${flavor}
    ${ours} =    Run On Host    virsh    dumpxml    --inactive    ${server.domain}
    ${novas} =    Define The Guest Of Nova    ${server.claims}
    FOR    ${path}    IN    maxMemory    memory    currentMemory    vcpu    cpu/numa    devices/memory
        Elements Should Be The Same    ${path}    ours=${ours.text}    novas=${novas}
    END
    FOR    ${path}    IN    memoryBacking    memtune    numatune
        Element Should Be In Neither    ${path}    ours=${ours.text}    novas=${novas}
    END
    [Teardown]    Undefine The Guest Of Nova


*** Keywords ***
Both Should Be Active On A Namespace Each
    [Documentation]    Fail unless two active servers have one namespace each, not the same one, and both are in use.
    [Arguments]    ${one}    ${two}
    FOR    ${server}    IN    ${one}    ${two}
        Get Server Status    ${server}    ==    ACTIVE
        Server Should Have    ${server}    SMALL
    END
    Should Not Be Equal    ${one.claims[0].namespace.uuid}    ${two.claims[0].namespace.uuid}
    Get Pmem Used    SMALL    ==    2

The Next Server Should Be In Error
    [Documentation]    Fail unless the error names both namespaces and their holder, and there is no domain.
    [Arguments]    ${flavor}    @{holders}
    ${three} =    Create Server    ${flavor}    name=three
    Get Server Status    ${three}    ==    ERROR
    FOR    ${name}    IN    ns_1    ns_2
        Should Match Regexp    ${three.fault}    (?s)No valid host.*${name} on .* is held by run .* since
    END
    ${guests} =    Get Guests
    Should Not Contain    ${guests}    ${three.domain}

Delete A Server That Has Written
    [Documentation]    Delete a server. Fail unless its domain and its lease are gone, and its namespace contains only
    ...    zeros.
    [Arguments]    ${server}
    VAR    ${namespace} =    ${server.claims[0].namespace}
    Write Into Server    ${server}    seed=written before the delete
    Delete Server    ${server}
    Get Server Status    ${server}    ==    DELETED
    ${guests} =    Get Guests
    Should Not Contain    ${guests}    ${server.domain}
    Namespace Should Not Be Locked    ${namespace}
    Get Pmem Used    SMALL    ==    1
    Content Should Be Zero    ${namespace}

Define The Guest Of Nova
    [Documentation]    Define Nova's XML on the same namespaces with virsh, and return the XML that libvirt keeps.
    [Arguments]    ${claims}
    ${xml} =    OperatingSystem.Get File    ${CURDIR}/../resources/domains/nova_two_devices.xml
    ${kib_1} =    Get Size In Kib    ${claims[0].namespace.size}
    ${kib_2} =    Get Size In Kib    ${claims[1].namespace.size}
    VAR    &{values} =
    ...    @NAME@=novas-own
    ...    @PATH_1@=${claims[0].namespace.device}
    ...    @KIB_1@=${kib_1}
    ...    @PATH_2@=${claims[1].namespace.device}
    ...    @KIB_2@=${kib_2}
    ...    @MAXIMUM@=${{262144 + $kib_1 + $kib_2}}
    ${xml} =    Fill In Values    ${xml}    &{values}
    Run On Host    virsh    define    /dev/stdin    stdin=${xml}
    ${kept} =    Run On Host    virsh    dumpxml    --inactive    novas-own
    RETURN    ${kept.text}

Elements Should Be The Same
    [Documentation]    Fail unless both have the same number of elements, in the same order, with the same texts,
    ...    attributes and children.
    [Arguments]    ${path}    ${ours}    ${novas}
    ${mine} =    XML.Get Elements    ${ours}    ${path}
    ${theirs} =    XML.Get Elements    ${novas}    ${path}
    Should Not Be Empty    ${theirs}
    FOR    ${one}    ${other}    IN ZIP    ${mine}    ${theirs}    mode=STRICT
        XML.Elements Should Be Equal    ${one}    ${other}    normalize_whitespace=True
    END

Element Should Be In Neither
    [Documentation]    Fail if the element exists in either definition. Nova writes none for such a flavor.
    [Arguments]    ${path}    ${ours}    ${novas}
    FOR    ${xml}    IN    ${ours}    ${novas}
        XML.Element Should Not Exist    ${xml}    ${path}
    END

Undefine The Guest Of Nova
    [Documentation]    Undefine the foreign domain and delete all servers.
    ${guests} =    Get Guests
    IF    'novas-own' in $guests    Undefine Guest    novas-own    foreign=True
    Clean Up Servers
