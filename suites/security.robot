*** Settings ***
Documentation     DIMMs get passphrases, are locked and unlocked, frozen and erased.
...
...               Security needs a test bus, a bus of the kernel's nfit_test module. Each test uses a DIMM with two
...               regions, and disables both regions meanwhile.

Resource          ../resources/test_bus.resource

Suite Setup       Take A Host With A Test Bus
Suite Teardown    Give The Host And Its Own Bus Back
Test Setup        Disable The Regions Of The Bus
Test Teardown     Make The Bus As New


*** Test Cases ***
A Passphrase Is Set, Changed And Removed
    [Documentation]    The kernel and ndctl report the same state. A change makes another encrypted passphrase.
    [Tags]    se-01
    Get Dimm Security    ${DIMM}    ==    disabled
    Set Passphrase    ${DIMM}
    Security Should Be    unlocked
    ${first} =    Get Stored Passphrase
    Set Passphrase    ${DIMM}
    ${second} =    Get Stored Passphrase
    Should Not Be Equal    ${first}    ${second}
    Remove Passphrase    ${DIMM}
    Security Should Be    disabled
    Passphrase Should Not Be Stored

A Locked DIMM Is Unlocked With The Key
    [Documentation]    A DIMM with a passphrase is locked after it lost its power. Its regions cannot be enabled then.
    ...    With the key, its content is there again.
    [Tags]    se-01
    ${namespace} =    Create A Pattern On The DIMM
    Set Passphrase    ${DIMM}
    Lock The DIMM As A Loss Of Power Does
    Security Should Be    locked
    Run Keyword And Expect Error    *it is locked*    Set Passphrase    ${DIMM}
    Run Keyword And Expect Error    *    Enable Region    ${REGION}
    Unlock Dimm    ${DIMM}
    Security Should Be    unlocked
    Enable Region    ${REGION}
    Pattern Should Be Intact    ${namespace}    seed=locked    length=1MiB

A DIMM Without Its Key Stays Locked
    [Documentation]    ndctl reports success for such a DIMM. The keyword fails, and the DIMM is locked.
    [Tags]    se-01
    Set Passphrase    ${DIMM}
    Take The Key Away
    Lock The DIMM As A Loss Of Power Does
    Run Keyword And Expect Error    *still locked*keyctl show*    Unlock Dimm    ${DIMM}
    Security Should Be    locked
    [Teardown]    Give The Key Back And Make The Bus As New

A Frozen DIMM Refuses Every Change
    [Documentation]    Each keyword is refused, and the state is the same afterwards.
    [Tags]    se-02
    Set Passphrase    ${DIMM}
    Freeze Dimm Security    ${DIMM}
    Security Should Be    unlocked frozen
    ${before} =    Get Stored Passphrase
    FOR    ${keyword}    IN    Set Passphrase    Remove Passphrase    Erase Dimm    Freeze Dimm Security
        Run Keyword And Expect Error    *frozen*    ${keyword}    ${DIMM}
    END
    Security Should Be    unlocked frozen
    ${after} =    Get Stored Passphrase
    Should Be Equal    ${after}    ${before}

Secure Erase Removes The Passphrase
    [Documentation]    The stored passphrase is gone too. A test bus keeps its bytes, so the content is not compared.
    [Tags]    se-03
    Set Passphrase    ${DIMM}
    Erase Dimm    ${DIMM}    crypto
    Security Should Be    disabled
    Passphrase Should Not Be Stored

Overwrite Is Waited For
    [Documentation]    No overwrite is active afterwards. A test bus keeps its bytes, so the content is not compared.
    [Tags]    se-03
    Set Passphrase    ${DIMM}
    Erase Dimm    ${DIMM}    overwrite    timeout=3 minutes
    Security Should Be    unlocked

A DIMM With An Enabled Region Is Not Changed
    [Documentation]    The message names the enabled regions. Neither the state nor the content changes.
    [Tags]    se-03
    ${namespace} =    Create A Pattern On The DIMM
    Enable Region    ${REGION}
    FOR    ${keyword}    IN    Set Passphrase    Remove Passphrase    Erase Dimm
        Run Keyword And Expect Error    *while regions on the DIMM are enabled: ${REGION}*    ${keyword}    ${DIMM}
    END
    Security Should Be    disabled
    Pattern Should Be Intact    ${namespace}    seed=locked    length=1MiB

A DIMM With A Foreign Namespace Is Not Changed
    [Documentation]    The labels show the namespace even while its region is disabled.
    [Tags]    se-03
    Enable Region    ${REGION}
    Run On Host    ndctl    create-namespace    --region    ${REGION}    --mode    raw    --name    foreign
    Disable Region    ${REGION}    foreign=True
    FOR    ${keyword}    IN    Set Passphrase    Erase Dimm    Freeze Dimm Security    Remove Passphrase
        Run Keyword And Expect Error    *namespaces that this run did not make: foreign*    ${keyword}    ${DIMM}
    END
    Security Should Be    disabled
    Set Passphrase    ${DIMM}    foreign=True
    Security Should Be    unlocked

The Master Passphrase Erases A Locked DIMM
    [Documentation]    Without the master passphrase, a locked DIMM is not erased.
    [Tags]    se-04
    Set Passphrase    ${DIMM}
    Set Passphrase    ${DIMM}    master=True
    Lock The DIMM As A Loss Of Power Does
    Run Keyword And Expect Error    *it is locked*    Erase Dimm    ${DIMM}
    Enable Dimm    ${DIMM}
    Erase Dimm    ${DIMM}    crypto    master=True
    Security Should Be    disabled
    Passphrase Should Not Be Stored
    [Teardown]    Forget The Master Passphrase And Make The Bus As New


*** Keywords ***
Disable The Regions Of The Bus
    [Documentation]    Disable all regions of the test bus.
    ${regions} =    Get Regions    provider=nfit_test.0
    FOR    ${each}    IN    @{regions}
        Disable Region    ${each.dev}    foreign=True
    END

Make The Bus As New
    [Documentation]    Remove the passphrase and all namespaces. A frozen DIMM first loses its power, which ends that it
    ...    is frozen.
    ${state} =    Get Dimm Security    ${DIMM}
    Disable The Regions Of The Bus
    IF    '${state}' not in ('unlocked', 'disabled')
        Lock The DIMM As A Loss Of Power Does
        Unlock Dimm    ${DIMM}
    END
    IF    '${state}' != 'disabled'
        Remove Passphrase    ${DIMM}    foreign=True
    END
    Initialize Labels    ${REGION}    overwrite=True    foreign=True

Forget The Master Passphrase And Make The Bus As New
    [Documentation]    Remove the stored master passphrase. The DIMM keeps its own until the bus is removed.
    ${id} =    Run On Host    cat    /sys/bus/nd/devices/${DIMM}/nfit/id
    Run On Host    find    /etc/ndctl/keys    -name    nvdimm-master_${id.text.strip()}_*    -delete
    Make The Bus As New

Create A Pattern On The DIMM
    [Documentation]    Create a raw namespace with a pattern in the region of the DIMM. Disable the region again.
    Enable Region    ${REGION}
    ${namespace} =    Create Namespace    ${REGION}    mode=raw    size=at least 16MiB    name=locked
    Write Pattern    ${namespace}    seed=locked    length=1MiB
    Disable Region    ${REGION}
    RETURN    ${namespace}

Security Should Be
    [Documentation]    Compare the state of the DIMM in ndctl's listing and in the kernel's own file with a state.
    [Arguments]    ${expected}
    Get Dimm Security    ${DIMM}    ==    ${expected}
    ${file} =    Run On Host    cat    /sys/bus/nd/devices/${DIMM}/security
    ${kernel} =    Set Variable If    'frozen' in $expected    frozen    ${expected}
    Should Contain    ${expected}    ${file.text.strip()}    The kernel says ${file.text}, not ${kernel}.

Get Stored Passphrase
    [Documentation]    Return a checksum of the DIMM's encrypted passphrase on the host.
    ${files} =    Get Files Of The Passphrase
    Should Not Be Empty    ${files}    The host stores no passphrase of ${DIMM}.
    ${sum} =    Run On Host    sha256sum    ${files}[0]
    RETURN    ${sum.text}

Passphrase Should Not Be Stored
    [Documentation]    Fail if the host still stores a passphrase of the DIMM.
    ${files} =    Get Files Of The Passphrase
    Should Be Empty    ${files}

Get Files Of The Passphrase
    [Documentation]    Return the paths of the DIMM's encrypted passphrase on the host.
    ${id} =    Run On Host    cat    /sys/bus/nd/devices/${DIMM}/nfit/id
    ${found} =    Run On Host    find    /etc/ndctl/keys    -name    nvdimm_${id.text.strip()}_*
    RETURN    ${found.lines}

Lock The DIMM As A Loss Of Power Does
    [Documentation]    The test bus locks a DIMM by a file in sysfs, because it does not survive a loss of power.
    Disable Dimm    ${DIMM}
    ${handle} =    Run On Host    cat    /sys/bus/nd/devices/${DIMM}/nfit/handle
    ${found} =    Run On Host    grep    -lx    ${handle.text.strip()}    -r    --include\=handle
    ...    /sys/devices/platform/nfit_test.0/nfit_test_dimm
    ${directory} =    Evaluate    os.path.dirname($found.text)
    Run On Host    tee    ${directory}/lock_dimm    stdin=1

Take The Key Away
    [Documentation]    Remove the DIMM's key from root's keyring, and its encrypted passphrase from its directory.
    ${id} =    Run On Host    cat    /sys/bus/nd/devices/${DIMM}/nfit/id
    ${files} =    Get Files Of The Passphrase
    Run On Host    mv    ${files}[0]    /run/vpmem-taken-key
    VAR    ${TAKEN} =    ${files}[0]    scope=SUITE
    Run Script On Host    remove_passphrase_key.sh    ${id.text.strip()}

Give The Key Back And Make The Bus As New
    [Documentation]    Put the encrypted passphrase back, unlock the DIMM with it, and remove it.
    Run On Host    mv    /run/vpmem-taken-key    ${TAKEN}
    Disable Dimm    ${DIMM}
    Unlock Dimm    ${DIMM}
    Make The Bus As New
