*** Settings ***
Documentation     virtio-pmem: a device that flushes by asking the host, in a guest that was booted with it.
...
...               Its backing is an fsdax namespace as a block device: libvirt gives virtio-pmem no alignment, which
...               device DAX would need.

Resource          ../resources/guest.resource

Suite Setup       Boot A Guest With Virtio Pmem
Suite Teardown    Give The Host Back


*** Variables ***
${LENGTH}    8MiB


*** Test Cases ***
A Guest Boots With It And Sees It By Its Provider
    [Documentation]    Every view has the device, beside an NVDIMM; its region has no DIMM and no label area.
    [Tags]    vp-01
    All Views Should Agree    ${GUEST}
    Guest Memory Should Agree    ${GUEST}
    ${regions} =    Get Guest Regions    ${GUEST}
    ${region} =    Evaluate    next(each for each in $regions if each.provider == 'virtio-pmem')
    Should Be Empty    ${region.dimms}
    Should Be Equal As Integers    ${region.size}    ${BLOCK.size}
    Should Be Equal As Strings    ${region.namespaces[0].mode}    fsdax

What The Guest Flushed Is There When Its Qemu Is Killed
    [Documentation]    The host reads the bytes from the namespace itself, and the next boot has them.
    [Tags]    vp-01
    Write Pattern In Guest    ${GUEST}    ${BLOCK}    seed=flushed    length=${LENGTH}
    ${process} =    Get Guest Process    ${GUEST}
    Run On Host    kill    -9    ${process}
    Wait Until Keyword Succeeds    1 minute    1 second    Get Guest State    ${GUEST}    ==    shut off
    Host Should Hold Guest Pattern    ${GUEST}    ${BLOCK}    seed=flushed    length=${LENGTH}
    Start Guest    ${GUEST}
    Guest Pattern Should Be Intact    ${GUEST}    ${BLOCK}    seed=flushed    length=${LENGTH}

It Is Attached To A Running Guest
    [Documentation]    As an NVDIMM is, by the same keyword; it takes a slot of libvirt's.
    [Tags]    vp-01
    ${device} =    New Vpmem Device    ${LATER}    model=virtio_pmem
    ${attached} =    Attach Vpmem Device    ${GUEST}    ${device}
    Should Be Equal    ${attached.region.provider}    virtio-pmem
    All Views Should Agree    ${GUEST}

A Running Guest Keeps It
    [Documentation]    QEMU refuses to take it out; the message has its code and the mend, and the guest its bytes.
    [Tags]    vp-03
    Run Keyword And Expect Error    *libvirt error code*detach it for the next start*
    ...    Detach Vpmem Device    ${GUEST}    ${BLOCK}    live=True
    All Views Should Agree    ${GUEST}
    Guest Pattern Should Be Intact    ${GUEST}    ${BLOCK}    seed=flushed    length=${LENGTH}

What It Cannot Have Is Refused
    [Documentation]    Device DAX as its backing, which needs an alignment; no guest comes of it.
    [Tags]    vp-01
    ${device} =    New Vpmem Device    ${NVDIMM}    model=virtio_pmem
    Run Keyword And Expect Error    *align of ${NVDIMM.device}*virtio-pmem*
    ...    Define Guest    vpmem=${device}    name=impossible
    ${guests} =    Get Guests
    Should Not Contain    ${guests}    impossible


*** Keywords ***
Boot A Guest With Virtio Pmem
    [Documentation]    One NVDIMM and one virtio-pmem device, and a namespace for another one.
    Take A Host
    ${nvdimm} =    Create Devdax Namespace    64MiB    nvdimm
    ${block} =    Create Namespace    ${nvdimm.region}    mode=fsdax    size=at least 64MiB    name=block
    ${later} =    Create Namespace    ${nvdimm.region}    mode=fsdax    size=at least 64MiB    name=later
    VAR    ${NVDIMM} =    ${nvdimm}    scope=SUITE
    VAR    ${BLOCK} =    ${block}    scope=SUITE
    VAR    ${LATER} =    ${later}    scope=SUITE
    Boot It

Boot It
    [Documentation]    A guest with both.
    ${virtio} =    New Vpmem Device    ${BLOCK}    model=virtio_pmem
    VAR    @{devices} =    ${NVDIMM}    ${virtio}
    ${guest} =    Start New Guest    vpmem=${devices}
    VAR    ${GUEST} =    ${guest}    scope=SUITE
