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


*** Keywords ***
Stop Nova Compute On A Host With Namespaces Of Every Kind
    [Documentation]    Take the cloud. Stop nova-compute, and create one namespace of each kind that it does not accept,
    ...    and two with the same name.
    Skip Unless The Cloud Is The Lab's
    Take The Cloud
    Run On Host    systemctl    stop    nova-compute
    ${given} =    Get Namespace    ns_0
    FOR    ${name}    ${mode}    IN
    ...    file_system    fsdax    off    devdax    twins    devdax    twins    devdax
        Create Namespace    ${given.region}    mode=${mode}    size=at least 16MiB    name=${name}
    END
    Disable Namespace    off

Give The Host Back With Its Own Setting
    [Documentation]    Remove what the suite has made, and start nova-compute with the setting that it had.
    IF    $CLOUD == 'lab'
        Run On Host    systemctl    stop    nova-compute
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
    Run On Host    systemctl    stop    nova-compute

Nova Compute Runs With
    [Documentation]    Start nova-compute with a setting, after it was stopped if it runs, and wait until it is ready.
    [Arguments]    ${setting}
    Run On Host    systemctl    stop    nova-compute
    Nova Compute Has The Setting    ${setting}
    Nova Compute Is Started Again

Clean Up And Stop Nova Compute
    [Documentation]    Delete what the test created in the cloud, and stop nova-compute for the next test.
    Run Keyword If Test Failed    Nova Compute Runs With    SMALL:ns_1|ns_2
    Clean Up Cloud
    Run On Host    systemctl    stop    nova-compute

Nova Compute Has The Setting
    [Documentation]    Add a file with the setting to the configuration of nova-compute.
    [Arguments]    ${setting}
    Run On Host    mkdir    -p    /etc/nova/nova.conf.d
    Run On Host    tee    ${FILE}    stdin=[libvirt]\npmem_namespaces = ${setting}\n
