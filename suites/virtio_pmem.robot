*** Settings ***
Documentation     virtio-pmem devices in a guest that boots with such a device. A flush is a request to the host.
...
...               The backing is an fsdax namespace as a block device. Device DAX needs an alignment, which libvirt does
...               not support for virtio-pmem.

Resource          ../resources/guest.resource

Suite Setup       Boot A Guest With Virtio Pmem
Suite Teardown    Give The Host Back
Test Setup        Skip Unless Guests Have Virtio Pmem


*** Variables ***
${LENGTH}    8MiB


*** Test Cases ***
A Guest Boots With Virtio Pmem And Sees It By Its Provider
    [Documentation]    Every view has the device beside an NVDIMM. Its region has no DIMM and no label area.
    [Tags]    vp-01
    All Views Should Agree    ${GUEST}
    Guest Memory Should Agree    ${GUEST}
    ${regions} =    Get Guest Regions    ${GUEST}
    ${region} =    Get Record With    ${regions}    provider=virtio-pmem
    Should Be Empty    ${region.dimms}
    Should Be Equal As Integers    ${region.size}    ${BLOCK.size}
    Should Be Equal As Strings    ${region.namespaces[0].mode}    fsdax

Flushed Data On Virtio Pmem Survives A Kill Of QEMU
    [Documentation]    The host reads the bytes from the namespace itself, and the next boot has them.
    [Tags]    vp-01
    Write Pattern In Guest    ${GUEST}    ${BLOCK}    seed=flushed    length=${LENGTH}
    ${process} =    Get Guest Process    ${GUEST}
    Run On Host    kill    -9    ${process}
    Wait Until Keyword Succeeds    1 minute    1 second    Get Guest State    ${GUEST}    ==    shut off
    Host Should Hold Guest Pattern    ${GUEST}    ${BLOCK}    seed=flushed    length=${LENGTH}
    Start Guest    ${GUEST}
    Guest Pattern Should Be Intact    ${GUEST}    ${BLOCK}    seed=flushed    length=${LENGTH}

A Virtio Pmem Device Is Attached To A Running Guest
    [Documentation]    The keyword is the same as for an NVDIMM. The device uses a slot of libvirt.
    [Tags]    vp-01
    ${device} =    New Vpmem Device    ${LATER}    model=virtio_pmem
    ${attached} =    Attach Vpmem Device    ${GUEST}    ${device}
    Should Be Equal    ${attached.region.provider}    virtio-pmem
    All Views Should Agree    ${GUEST}

A Running Guest Keeps Its Virtio Pmem Device
    [Documentation]    QEMU refuses to remove the device. The error has the error code and the fix, and the guest keeps
    ...    its bytes.
    [Tags]    vp-03
    Write Pattern In Guest    ${GUEST}    ${BLOCK}    seed=flushed    length=${LENGTH}
    Run Keyword And Expect Error    *libvirt error code*Detach it for the next start*
    ...    Detach Vpmem Device    ${GUEST}    ${BLOCK}    live=True
    All Views Should Agree    ${GUEST}
    Guest Pattern Should Be Intact    ${GUEST}    ${BLOCK}    seed=flushed    length=${LENGTH}

Device DAX As A Virtio Pmem Backing Is Refused
    [Documentation]    Device DAX needs an alignment. No guest is created.
    [Tags]    vp-01
    [Setup]    NONE
    ${device} =    New Vpmem Device    ${NVDIMM}    model=virtio_pmem
    Run Keyword And Expect Error    *backing ${NVDIMM.device} with the alignment*virtio-pmem device no alignment*
    ...    Define Guest    vpmem=${device}    name=impossible
    ${guests} =    Get Guests
    Should Not Contain    ${guests}    impossible


*** Keywords ***
Boot A Guest With Virtio Pmem
    [Documentation]    Create an NVDIMM namespace, a virtio-pmem namespace and a namespace to attach later. Boot a
    ...    guest.
    Take A Fitting Host Or Skip    mapping    labels
    ${nvdimm} =    Create Devdax Namespace    64MiB    nvdimm
    ${block} =    Create Namespace    ${nvdimm.region}    mode=fsdax    size=at least 64MiB    name=block
    ${later} =    Create Namespace    ${nvdimm.region}    mode=fsdax    size=at least 64MiB    name=later
    VAR    ${NVDIMM} =    ${nvdimm}    scope=SUITE
    VAR    ${BLOCK} =    ${block}    scope=SUITE
    VAR    ${LATER} =    ${later}    scope=SUITE
    Boot A Guest With Both Devices

Boot A Guest With Both Devices
    [Documentation]    Boot a guest with both devices.
    ${virtio} =    New Vpmem Device    ${BLOCK}    model=virtio_pmem
    VAR    @{devices} =    ${NVDIMM}    ${virtio}
    ${guest} =    Start New Guest With Virtio Pmem    ${devices}
    VAR    ${GUEST} =    ${guest}    scope=SUITE
