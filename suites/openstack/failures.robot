*** Settings ***
Documentation     A cloud of the user's own clouds.yaml, and what a user, a quota or nova-compute can do wrong. Each is
...               an error that says what to do, and nothing is left over.

Resource          ../../resources/cloud.resource

Suite Setup       Take The Cloud
Suite Teardown    Give The Cloud Back

Test Tags         openstack    os-12


*** Test Cases ***
A Server Of A Cloud Of The User's Clouds Yaml Is Proven As Another
    [Documentation]    The file has no microversion, so the newest common one is used.
    [Setup]    Write The User's Clouds Yaml
    Open Cloud    vpmem-lab
    ${flavor} =    Create Flavor    own    hw:pmem=SMALL
    ${server} =    Create An Active Server    ${flavor}    own
    Server Should Use    ${server}    SMALL
    [Teardown]    Run Keywords    Clean Up And Wait For Placement    AND    Use The Cloud Of The Suite Again

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
        ${server} =    Request Server    ${flavor}    late
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
    [Setup]    Write The User's Clouds Yaml    password=never-shown
    ${error} =    Run Keyword And Expect Error    *    Open Cloud    vpmem-lab
    Should Match    ${error}    *because it refused the credentials: *(HTTP 401)*Check `auth`*
    Should Not Contain    ${error}    never-shown
    [Teardown]    Use The Cloud Of The Suite Again

A Cloud That Is Not In Clouds Yaml Is Refused With Those That Are
    [Documentation]    Nothing is asked of any cloud.
    Run Keyword And Expect Error
    ...    cloud 'no-such-cloud' cannot be used: expected lab, or a cloud of clouds.yaml (*).*
    ...    Open Cloud    no-such-cloud
    [Teardown]    Open Cloud    ${CLOUD}


*** Keywords ***
Write The User's Clouds Yaml
    [Documentation]    Write a clouds.yaml with the lab's cloud `vpmem-lab`, with its password or another one. It is the
    ...    user's clouds.yaml until the end of the test.
    [Arguments]    ${password}=${EMPTY}
    Skip Unless The Cloud Is The Lab's
    VAR    ${FILE} =    ${TEMPDIR}/vpmem-clouds-${{os.getpid()}}.yaml    scope=SUITE
    ${value} =    OperatingSystem.Get Environment Variable    OS_CLIENT_CONFIG_FILE    ${EMPTY}
    VAR    ${VALUE_BEFORE} =    ${value}    scope=SUITE
    Write Clouds Yaml Of Lab    ${FILE}    password=${password}
    OperatingSystem.Set Environment Variable    OS_CLIENT_CONFIG_FILE    ${FILE}

Use The Cloud Of The Suite Again
    [Documentation]    Remove the user's clouds.yaml, and open the cloud of the suite.
    IF    $CLOUD == 'lab'
        OperatingSystem.Set Environment Variable    OS_CLIENT_CONFIG_FILE    ${VALUE_BEFORE}
        OperatingSystem.Remove File    ${FILE}
        Open Cloud    ${CLOUD}
    END
