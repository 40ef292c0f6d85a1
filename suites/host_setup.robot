*** Settings ***
Documentation     The requirements of a host for persistent memory, and the reports and fixes for missing parts.
...
...               A host without a part is the taken host itself, seen through a mount namespace that hides that part.
...               The host is not changed.

Library           OperatingSystem
Resource          ../resources/host.resource

Suite Setup       Take A Host
Suite Teardown    Give The Host Back
Test Teardown     Look At The Host Itself

Test Tags         smoke


*** Variables ***
${OLD_NDCTL}    mount -t tmpfs none /mnt && printf '#!/bin/sh\\necho 61\\n' >/mnt/ndctl && chmod 755 /mnt/ndctl


*** Test Cases ***
The Preflight Names A Missing Tool And Its Package
    [Documentation]    The host has no ndctl.
    [Tags]    hs-02
    Preflight Should Tell    mount --bind /dev/null "$(command -v ndctl)"
    ...    ndctl is missing    62 or newer    install ndctl

The Preflight Names A Tool That Is Too Old
    [Documentation]    The host has ndctl 61.
    [Tags]    hs-02
    Preflight Should Tell    ${OLD_NDCTL} && mount --bind /mnt/ndctl "$(command -v ndctl)"
    ...    ndctl is too old    found: 61    62 or newer    install ndctl

The Preflight Names A Missing Region
    [Documentation]    The host has no NVDIMM.
    [Tags]    hs-02
    Preflight Should Tell    mount -t tmpfs none /sys/bus/nd/devices
    ...    region is missing    App Direct    kernel parameter memmap

The Preflight Names A Missing Module
    [Documentation]    The host's kernel has none of the modules.
    [Tags]    hs-02
    Preflight Should Tell    mount -t tmpfs none /sys/module && mount -t tmpfs none /lib/modules
    ...    module nd_pmem is missing    module device_dax is missing    modules package

A Missing Module Is Loaded
    [Documentation]    The module is unloaded first. Afterwards the kernel's own list contains it.
    [Tags]    hs-03
    Run On Host    modprobe    -r    kmem    expected_status=${None}
    ${before} =    Run On Host    cat    /proc/modules
    Skip If    'kmem ' in $before.text    kmem is in use, so it cannot be missing: return system-ram to devdax first.
    ${loaded} =    Load Kernel Modules    kmem
    Should Be Equal    ${loaded}    ${{('kmem',)}}
    ${after} =    Run On Host    cat    /proc/modules
    Should Match Regexp    ${after.text}    (?m)^kmem\\s
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
    Opening Should Be Refused    ${known_hosts}    *not known*

A Changed Host Key Is Refused
    [Documentation]    The known_hosts file has a different key for the host, which may be a different machine.
    [Tags]    hs-05
    VAR    ${key} =    ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHUVc/7Wr3dzGJx0v5Qb0sxBSH5jTbO8gC5aSgV3zEuv
    ${known_hosts} =    Write Known Hosts    ${key}
    Opening Should Be Refused    ${known_hosts}    *changed*


*** Keywords ***
Preflight Should Tell
    [Documentation]    Expect the preflight to fail after a change, with all of these texts in its report.
    [Arguments]    ${change}    @{texts}
    Look At The Host Through    ${change}
    ${told} =    Run Keyword And Expect Error    *    Host Should Support Vpmem
    FOR    ${text}    IN    @{texts}
        Should Contain    ${told}    ${text}
    END

Write Known Hosts
    [Documentation]    Write a known_hosts file with this key for the taken host, or without a key.
    [Arguments]    ${key}
    ${aliases} =    Get Open Hosts
    ${entry} =    Get Host Entry    ${HOSTS}    ${aliases}[0]
    Skip If    $entry.address == 'local'    This machine is opened without SSH: give a host with an address.
    VAR    ${path} =    ${OUTPUT_DIR}/known_hosts-${entry.name}
    ${settings} =    Evaluate    VpmemLibrary.host.hosts_file.settings_of($entry)    VpmemLibrary.host.hosts_file
    OperatingSystem.Create File    ${path}    ${settings.key_name} ${key}\n
    RETURN    ${path}

Opening Should Be Refused
    [Documentation]    Fail unless the host is refused with this known_hosts file. The host stays open with its own
    ...    file.
    [Arguments]    ${known_hosts}    ${message}
    ${aliases} =    Get Open Hosts
    ${entry} =    Get Host Entry    ${HOSTS}    ${aliases}[0]
    Run Keyword And Expect Error
    ...    ${message}
    ...    Open Host
    ...    ${entry.address}
    ...    ${entry.user}
    ...    port=${entry.port}
    ...    key_file=${entry.key_file}
    ...    known_hosts=${known_hosts}
    ...    alias=changed
    ...    ssh_config=${entry.ssh_config or 'yes'}
    ${after} =    Get Open Hosts
    Should Be Equal    ${after}    ${aliases}
    OperatingSystem.Remove File    ${known_hosts}
