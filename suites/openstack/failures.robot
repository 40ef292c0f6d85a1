*** Settings ***
Documentation     What a user, a quota or nova-compute can do wrong. Each is an error that says what to do, and nothing
...               is left over.

Resource          ../../resources/cloud.resource

Suite Setup       Take The Cloud
Suite Teardown    Give The Cloud Back

Test Tags         openstack    os-12


*** Test Cases ***
A Server Beyond The Quota Is Refused With The Name Of The Quota
    [Documentation]    The flavor has more RAM than the default quota of a project, 51200 MiB.
    [Setup]    Skip Unless The Cloud Is The Lab's
    ${flavor} =    Create Flavor    huge    ram=60000MiB    hw:pmem=SMALL
    Run Keyword And Expect Error
    ...    *a quota of the project does not allow it: Quota exceeded for ram: Requested 60000, *of 51200 ram*
    ...    Create Server    ${flavor}    image=${IMAGE}
    ${deleted} =    Clean Up Cloud
    Length Should Be    ${deleted}    1
    Cloud Should Have No Leaks
    [Teardown]    Clean Up And Wait For Placement

A Server That Stays In BUILD Is Reported With Its Task And The Log Of Nova Compute
    [Documentation]    nova-compute does not run meanwhile. When it continues, the server becomes ACTIVE.
    [Setup]    Skip Unless The Cloud Is The Lab's
    ${flavor} =    Create Flavor    late    hw:pmem=SMALL
    Run On Host    systemctl    kill    --signal\=SIGSTOP    nova-compute
    TRY
        ${server} =    Create Server    ${flavor}    image=${IMAGE}
        Run Keyword And Expect Error
        ...    *should become ACTIVE, but it is BUILD, task *The end of /var/log/nova/nova-compute.log on *
        ...    Server Should Become    ${server}    ACTIVE    timeout=20 s
    FINALLY
        Run On Host    systemctl    kill    --signal\=SIGCONT    nova-compute
    END
    Server Should Become    ${server}    ACTIVE
    [Teardown]    Clean Up And Wait For Placement

A Wrong Password Is Refused And Not Shown
    [Documentation]    The user's clouds.yaml has the lab's cloud with another password.
    [Setup]    Skip Unless The Cloud Is The Lab's
    ${error} =    Opening The Lab's Cloud Should Fail With Password    never-shown
    Should Match    ${error}    *because it refused the credentials: *(HTTP 401). Check `auth`*
    Should Not Contain    ${error}    never-shown
    [Teardown]    Open Cloud    ${CLOUD}

A Cloud That Is Not In Clouds Yaml Is Refused With Those That Are
    [Documentation]    Nothing is asked of any cloud.
    Run Keyword And Expect Error
    ...    cloud 'no-such-cloud' cannot be used: expected lab, or a cloud of clouds.yaml (*).*
    ...    Open Cloud    no-such-cloud
    [Teardown]    Open Cloud    ${CLOUD}


*** Keywords ***
Opening The Lab's Cloud Should Fail With Password
    [Documentation]    Open the lab's cloud through a clouds.yaml with this password. Return the error.
    [Arguments]    ${password}
    VAR    ${file} =    ${TEMPDIR}/vpmem-clouds-${{os.getpid()}}.yaml
    ${before} =    OperatingSystem.Get Environment Variable    OS_CLIENT_CONFIG_FILE    ${EMPTY}
    Write Clouds Yaml Of Lab    ${file}    password=${password}
    OperatingSystem.Set Environment Variable    OS_CLIENT_CONFIG_FILE    ${file}
    TRY
        ${error} =    Run Keyword And Expect Error    *    Open Cloud    vpmem-lab
    FINALLY
        OperatingSystem.Set Environment Variable    OS_CLIENT_CONFIG_FILE    ${before}
        OperatingSystem.Remove File    ${file}
    END
    RETURN    ${error}
