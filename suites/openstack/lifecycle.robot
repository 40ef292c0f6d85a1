*** Settings ***
Documentation     What becomes of the data of a server that is rebooted, rebuilt or shelved.
...
...               One server serves all tests. A test that fails leaves a new one to the next test.

Resource          ../../resources/cloud.resource

Suite Setup       Take The Cloud With A Server
Suite Teardown    Give The Cloud Back
Test Teardown     Run Keyword If Test Failed    Replace The Server

Test Tags         openstack


*** Test Cases ***
A Soft Reboot Keeps The Data
    [Documentation]    The guest's operating system starts again in the same domain.
    [Tags]    os-07
    Server Has Written    ${SERVER}    ${NAMESPACE}    seed=before the reboot
    ${guest} =    Get Server Guest    ${SERVER}
    ${before} =    Get Guest Boot Id    ${guest}
    Reboot Server    ${SERVER}
    Server Should Become    ${SERVER}    ACTIVE
    Server Should Read    ${SERVER}    ${NAMESPACE}    seed=before the reboot
    ${guest} =    Get Server Guest    ${SERVER}
    ${after} =    Get Guest Boot Id    ${guest}
    Should Not Be Equal    ${after}    ${before}

Rebuilding A Server Wipes Its Namespace And Keeps It
    [Documentation]    The rebuilt server has the same namespace, with only zeros.
    [Tags]    os-09
    Server Has Written    ${SERVER}    ${NAMESPACE}    seed=before the rebuild
    Rebuild Server    ${SERVER}    ${IMAGE}
    Server Should Become    ${SERVER}    ACTIVE
    Server Should Use    ${SERVER}    SMALL
    Server Should Read Zeros    ${SERVER}    ${NAMESPACE}

Shelving A Server Wipes And Frees Its Namespace
    [Documentation]    Nova stores the server's disk, but not its persistent memory. The unshelved server reads zeros.
    [Tags]    os-09
    Server Has Written    ${SERVER}    ${NAMESPACE}    seed=before the shelf
    Shelve Server    ${SERVER}
    Server Should Become    ${SERVER}    SHELVED_OFFLOADED
    Placement Should Hold    ${SERVER}
    Content Should Be Zero    ${NAMESPACE}
    Unshelve Server    ${SERVER}
    Server Should Become    ${SERVER}    ACTIVE
    Server Should Use    ${SERVER}    SMALL
    Remember The Namespace Of The Server
    Content Should Be Zero    ${NAMESPACE}
