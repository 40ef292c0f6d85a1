*** Settings ***
Documentation     Every rule of Nova's setting `pmem_namespaces`: what nova-compute says at its start, and whether it
...               starts. What becomes of a server whose namespace leaves the setting.
...
...               nova-compute reads the setting from a file that the test adds to its configuration.

Resource          ../../resources/cloud.resource

Suite Setup       Stop Nova Compute On A Host With Namespaces Of Every Kind
Suite Teardown    Give The Host Back With Its Own Setting

Test Tags         openstack    nv-04    os-04


*** Variables ***
${FILE}    /etc/nova/nova.conf.d/setting.conf
${LOG}     /var/log/nova/nova-compute.log


*** Test Cases ***
Nova Compute Does Not Start With A Wrong Setting
    [Documentation]    Its unit fails, and the log has the reason.
    [Template]    Nova Compute Should Refuse
    ns_0    The configuration doesn't follow the format
    4GB:    The PMEM namespace \ isn't on host
    SMALL:ns_1 | ns_2    The PMEM namespace ns_1 \ isn't on host
    4GB:absent    The PMEM namespace absent isn't on host
    4GB:file_system    The PMEM namespace file_system isn't on host
    4GB:off    The PMEM namespace off isn't on host
    SMALL:ns_1|ns_1    Duplicated PMEM namespace ns_1 configured
    4GB:ns_0,SMALL:ns_0    Duplicated PMEM namespace ns_0 configured

Nova Compute Does Not Start If Ndctl Fails
    [Documentation]    The log has the reason.
    [Setup]    Run On Host    mount    --bind    /bin/false    /usr/bin/ndctl
    Nova Compute Should Refuse    4GB:ns_0    Get PMEM namespaces on host failed
    [Teardown]    Run On Host    umount    /usr/bin/ndctl

Labels Of One Resource Class Are Added Up
    [Documentation]    Nova accepts a label in two cases, and with other signs between its letters, and a comma at the
    ...    end. Of two namespaces with the same name, it takes one.
    [Tags]    defect
    Nova Compute Should Start With    SMALL:ns_1,a-b:ns_0,small:ns_2,a_b:twins,
    Get Placement Total    SMALL    ==    2
    Get Placement Total    A_B    ==    2
    Get Placement Total    4GB    ==    0

A Server Whose Namespace Left The Setting Is Not Deleted
    [Documentation]    nova-compute starts without the namespace, and the delete fails by a KeyError
    ...    (nova/virt/libvirt/driver.py, _get_vpmems). The domain and the data stay. With the namespace in the setting
    ...    again, the delete works. Operators: before a namespace leaves the setting, delete the server that uses it.
    [Tags]    nv-08    os-10    defect
    [Setup]    Nova Compute Runs With    SMALL:ns_1
    ${server}    ${namespace} =    Create A Server With A Pattern    left    seed=not in the setting
    Nova Compute Runs With    SMALL:ns_2
    Run Keyword And Expect Error    *is ERROR: KeyError*KeyError: '${namespace.name}'*    Delete Server    ${server}
    ${guest} =    Get Server Guest    ${server}
    Host Should Hold Guest Pattern    ${guest}    ${namespace}    seed=not in the setting    length=4MiB
    Nova Compute Runs With    SMALL:ns_1|ns_2
    Delete Server    ${server}
    Content Should Be Zero    ${namespace}
    [Teardown]    Clean Up And Stop Nova Compute

A Namespace In Use Is Given To A Second Server After A Boot With Other Dax Devices
    [Documentation]    The kernel gives dax devices new numbers at each boot. nova-compute remembers a namespace in use
    ...    with its dax device (nova/compute/resource_tracker.py, _claim_resources), so it takes the namespace as free.
    ...    The second server reads the data of the first, and loses its own when the first is started, which is a hard
    ...    reboot (driver.py, power_on). Operators: destroy or create a namespace only on a host without servers with
    ...    vPMEM, and save the data before the start. Each server has six of twelve namespaces. That they share none is
    ...    a chance of one in 924.
    [Tags]    os-07    os-10    defect
    [Setup]    Nova Compute Runs With Twelve Namespaces After Others
    ${flavor} =    Create Flavor    six    hw:pmem=SMALL,SMALL,SMALL,SMALL,SMALL,SMALL
    ${first} =    Create An Active Server    ${flavor}    first
    ${namespaces} =    Get Namespaces Of Server    ${first}
    Server Has Written To Each    ${first}    ${namespaces}    seed=of the first
    Host Is Booted Without The Other Namespaces
    Server Should Be Off With Its Data    ${first}    ${namespaces}    seed=of the first
    ${second} =    Create An Active Server    ${flavor}    second
    ${shared} =    Second Server Should Find Data In One Of    ${second}    ${namespaces}    seed=of the first
    Server Has Written    ${second}    ${shared}    seed=of the second
    Starting The Server Should Wipe    ${first}    ${namespaces}
    [Teardown]    Run Keywords    Clean Up Cloud    AND    Stop Nova Compute


*** Keywords ***
Stop Nova Compute On A Host With Namespaces Of Every Kind
    [Documentation]    Take the cloud. Stop nova-compute, and create one namespace of each kind that it does not accept,
    ...    and two with the same name.
    Skip Unless The Cloud Is The Lab's
    Take The Cloud
    Stop Nova Compute
    ${given} =    Get Namespace    ns_0
    FOR    ${name}    ${mode}    IN
    ...    file_system    fsdax    off    devdax    twins    devdax    twins    devdax
        Create Namespace    ${given.region}    mode=${mode}    size=at least 16MiB    name=${name}
    END
    Disable Namespace    off

Give The Host Back With Its Own Setting
    [Documentation]    Remove what the suite has made, and start nova-compute with the setting that it had.
    IF    $CLOUD == 'lab'
        Stop Nova Compute
        Run On Host    rm    -f    ${FILE}
        Clean Up Host
        Nova Compute Is Started Again
        Give The Cloud Back
    END

Nova Compute Should Refuse
    [Documentation]    Start nova-compute with a setting. Fail unless it ends with an error, and its log has the
    ...    message.
    [Arguments]    ${setting}    ${message}
    Nova Compute Has The Setting    ${setting}
    Run On Host    truncate    --size\=0    ${LOG}
    Run On Host    systemctl    start    --wait    nova-compute    expected_status=${1}    timeout=5 minutes
    ${log} =    Get Output Of Host    cat    ${LOG}
    Should Contain    ${log}    ${message}

Nova Compute Should Start With
    [Documentation]    Start nova-compute with a setting, and wait until it is ready. Stop it.
    [Arguments]    ${setting}
    Nova Compute Runs With    ${setting}
    Stop Nova Compute

Nova Compute Runs With
    [Documentation]    Start nova-compute with a setting, after it was stopped if it runs, and wait until it is ready.
    [Arguments]    ${setting}
    Stop Nova Compute
    Nova Compute Has The Setting    ${setting}
    Nova Compute Is Started Again

Nova Compute Runs With Twelve Namespaces After Others
    [Documentation]    Create three namespaces, and after them in the region those that nova-compute may use.
    ${given} =    Get Namespace    ns_0
    FOR    ${number}    IN RANGE    3
        Create Namespace    ${given.region}    mode=devdax    size=at least 16MiB    name=other_${number}
    END
    VAR    @{names} =    @{EMPTY}
    FOR    ${number}    IN RANGE    12
        Create Namespace    ${given.region}    mode=devdax    size=at least 16MiB    name=of_twelve_${number}
        VAR    @{names} =    @{names}    of_twelve_${number}
    END
    Nova Compute Runs With    SMALL:${{'|'.join($names)}}

Server Has Written To Each
    [Documentation]    Write a pattern to each namespace inside the server's guest.
    [Arguments]    ${server}    ${namespaces}    ${seed}
    FOR    ${namespace}    IN    @{namespaces}
        Server Has Written    ${server}    ${namespace}    seed=${seed}
    END

Server Should Be Off With Its Data
    [Documentation]    Fail unless the server is off, and the host finds the pattern in each of its namespaces.
    [Arguments]    ${server}    ${namespaces}    ${seed}
    Server Should Become    ${server}    SHUTOFF
    FOR    ${namespace}    IN    @{namespaces}
        Pattern Should Be Intact    ${namespace}    seed=${seed}    length=4MiB
    END

Host Is Booted Without The Other Namespaces
    [Documentation]    Destroy the namespaces that are before the twelve in the region, and boot the host. Fail unless
    ...    the dax devices have other numbers.
    ${before} =    Get Namespace    of_twelve_0
    FOR    ${number}    IN RANGE    3
        Destroy Namespace    other_${number}
    END
    Reboot Host    foreign=True
    The Cloud Has The Host Again
    ${after} =    Get Namespace    of_twelve_0
    Should Be Equal    ${after.uuid}    ${before.uuid}
    Should Not Be Equal    ${after.device}    ${before.device}

Second Server Should Find Data In One Of
    [Documentation]    Fail unless the server has at least one of these namespaces, and its guest finds the pattern
    ...    there. Return this namespace.
    [Arguments]    ${server}    ${namespaces}    ${seed}
    ${found} =    Get Namespaces Of Server    ${server}
    ${uuids} =    Get Field Of Each    ${namespaces}    uuid
    VAR    @{shared} =    @{EMPTY}
    FOR    ${each}    IN    @{found}
        IF    $each.uuid in $uuids
            Collections.Append To List    ${shared}    ${each}
        END
    END
    Should Not Be Empty    ${shared}    The servers share no namespace: by a chance of one in 924, or Nova is fixed.
    ${guest} =    Get Server Guest    ${server}
    Wait Until Guest Is Ready    ${guest}
    Guest Pattern Should Be Intact    ${guest}    ${shared}[0]    seed=${seed}    length=4MiB
    RETURN    ${shared}[0]

Starting The Server Should Wipe
    [Documentation]    Start a server. Fail unless its namespaces, of which another server uses at least one, have
    ...    only zeros afterwards.
    [Arguments]    ${server}    ${namespaces}
    Start Server    ${server}
    Server Should Become    ${server}    ACTIVE
    FOR    ${namespace}    IN    @{namespaces}
        Content Should Be Zero    ${namespace}
    END

Clean Up And Stop Nova Compute
    [Documentation]    Delete what the test created in the cloud, and stop nova-compute for the next test.
    Run Keyword If Test Failed    Nova Compute Runs With    SMALL:ns_1|ns_2
    Clean Up Cloud
    Stop Nova Compute

Nova Compute Has The Setting
    [Documentation]    Add a file with the setting to the configuration of nova-compute.
    [Arguments]    ${setting}
    Run On Host    mkdir    -p    /etc/nova/nova.conf.d
    Run On Host    tee    ${FILE}    stdin=[libvirt]\npmem_namespaces = ${setting}\n
