*** Settings ***
Documentation     The requirements of a host for persistent memory, and the reports and fixes for missing parts.
...
...               A host without a part is the taken host itself, seen through a mount namespace that hides that part.
...               The host is not changed.

Resource          ../resources/host.resource

Suite Setup       Take A Host
Suite Teardown    Give The Host Back
Test Teardown     Look At The Host Itself

Test Tags         smoke


*** Variables ***
${OTHER_KEY}    ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHUVc/7Wr3dzGJx0v5Qb0sxBSH5jTbO8gC5aSgV3zEuv


*** Test Cases ***
The Preflight Names A Missing Tool And Its Package
    [Documentation]    The host has no ndctl.
    [Tags]    hs-02
    Look At The Host Without    ndctl
    Preflight Should Report    ndctl is missing    62 or newer    install ndctl

The Preflight Names A Tool That Is Too Old
    [Documentation]    The host has ndctl 61.
    [Tags]    hs-02
    Look At The Host With A Stand-In    ndctl    is_version_61
    Preflight Should Report    ndctl is too old    found: 61    62 or newer    install ndctl

The Preflight Names A Missing Region
    [Documentation]    The host has no NVDIMM.
    [Tags]    hs-02
    Look At The Host With Empty Directories    /sys/bus/nd/devices
    Preflight Should Report    region is missing    App Direct    kernel parameter memmap

The Preflight Names A Missing Module
    [Documentation]    The host's kernel has none of the modules.
    [Tags]    hs-02
    Look At The Host With Empty Directories    /sys/module    /lib/modules
    Preflight Should Report    module nd_pmem is missing    module device_dax is missing    modules package

A Missing Module Is Loaded
    [Documentation]    The module is unloaded first. Afterwards the kernel's own list contains it.
    [Tags]    hs-03
    Unload Module Or Skip    kmem
    @{loaded} =    Load Kernel Modules    kmem
    Length Should Be    ${loaded}    1
    Should Be Equal    ${loaded}[0]    kmem
    ${modules} =    Get Output Of Host    cat    /proc/modules
    Should Match Regexp    ${modules}    (?m)^kmem\\s
    ${again} =    Load Kernel Modules    kmem
    Should Be Empty    ${again}
    [Teardown]    Run On Host    modprobe    -r    kmem

A Module That The Kernel Does Not Have Is An Error
    [Documentation]    The error names the module and has the message of modprobe.
    [Tags]    hs-03
    Run Keyword And Expect Error    *no module no_such_module*exit status: 1*not found*
    ...    Load Kernel Modules    no_such_module

An Unknown Host Key Is Refused
    [Documentation]    The host is not in the known_hosts file.
    [Tags]    hs-05
    ${known_hosts} =    Write Known Hosts    ${EMPTY}
    Opening Should Be Refused    ${known_hosts}    *The key of host * is unknown*

A Changed Host Key Is Refused
    [Documentation]    The known_hosts file has a different key for the host, which may be a different machine.
    [Tags]    hs-05
    ${known_hosts} =    Write Known Hosts    ${OTHER_KEY}
    Opening Should Be Refused    ${known_hosts}    *changed*


*** Keywords ***
Preflight Should Report
    [Documentation]    Expect the preflight to fail, with all of these texts in its report.
    [Arguments]    @{texts}
    ${report} =    Run Keyword And Expect Error    *    Host Should Support Vpmem
    Should Contain All    ${report}    @{texts}

Unload Module Or Skip
    [Documentation]    Unload a module. Skip if the host uses it.
    [Arguments]    ${module}
    Run On Host    modprobe    -r    ${module}    expected_status=${None}
    ${modules} =    Get Output Of Host    cat    /proc/modules
    Skip If
    ...    '${module} ' in $modules
    ...    ${module} is in use, so it cannot be missing: return system-ram to devdax first.

Write Known Hosts
    [Documentation]    Write a known_hosts file with this key for the taken host, or without a key.
    [Arguments]    ${key}
    Skip Unless The Host Is Reached Over SSH
    ${entry} =    Get Entry Of The Host
    VAR    ${path} =    ${OUTPUT_DIR}/known_hosts-${entry.name}
    ${name} =    Get Known Hosts Name    ${entry}
    OperatingSystem.Create File    ${path}    ${name} ${key}\n
    RETURN    ${path}

Opening Should Be Refused
    [Documentation]    Fail unless the host is refused with this known_hosts file. The host stays open with its own
    ...    file.
    [Arguments]    ${known_hosts}    ${message}
    ${aliases} =    Get Open Hosts
    Run Keyword And Expect Error    ${message}
    ...    Open The Host Again    changed    known_hosts=${known_hosts}
    ${after} =    Get Open Hosts
    Should Be Equal    ${after}    ${aliases}
    OperatingSystem.Remove File    ${known_hosts}
