*** Settings ***
Documentation     The classic mistakes in a guest's XML: each is refused with its own message, and nothing is made.
...
...               Every test takes the XML of a good guest, makes one mistake in it, and has it defined.

Library           XML
Resource          ../resources/guest.resource

Suite Setup       Make A Good Guest's Xml
Suite Teardown    Give The Host Back
Test Template     Mistake Should Be Refused

Test Tags         gd-04


*** Variables ***
${MEMORY}    devices/memory[2]


*** Test Cases ***
No Maximum Memory
    *<maxMemory> of the domain XML 'none'*slots='2'*    Remove The Element    maxMemory
No Slots
    *slots of <maxMemory> 'none'*2 or more*    Remove The Attribute    maxMemory    slots
No Numa Cell
    *<numa> of the domain XML 'none'*<cell>*    Remove The Element    cpu/numa
No Node
    *node of /dev/*None*0 is always there*    Remove The Element    ${MEMORY}/target/node
A Node Out Of Range
    *node of /dev/* 3 cannot*a NUMA node of the guest: 0*    Set The Text    ${MEMORY}/target/node    3
No Path
    *path of a memory device 'none'*absolute path*    Remove The Element    ${MEMORY}/source/path
A Relative Path
    *path 'dax0.0'*absolute path*    Set The Text    ${MEMORY}/source/path    dax0.0
The Same Path Twice
    *path '/dev/*another backing*    Set The Text    ${MEMORY}/source/path    ${{'/dev/' + $FIRST}}
A Label That Is Too Small
    *label_size of /dev/* '64KiB'*128KiB at least*    Set The Text    ${MEMORY}/target/label/size    64
A Label As Large As The Device
    *label_size of /dev/* '*'*less than*    Set The Text    ${MEMORY}/target/label/size    ${LARGEST_LABEL}
A Uuid On This Architecture
    *uuid of /dev/*only pSeries*    Add An Element    ${MEMORY}    <uuid>94d02aa7-b6f2-4a01-a98b-bb4ad5be5e8c</uuid>
Discard
    *discard of /dev/* 'yes'*none*    Set The Attribute    ${MEMORY}    discard    yes
No Access So That Nothing Persists
    *access of /dev/* 'none'*nothing persists*    Remove The Attribute    ${MEMORY}    access
A Label On Virtio Pmem
    *label_size of /dev/*virtio-pmem has no label*    Set The Attribute    ${MEMORY}    model    virtio-pmem
A Backing That Is Not There
    *path '/dev/dax99.9'*a device node or file*    Set The Text    ${MEMORY}/source/path    /dev/dax99.9
A Device Larger Than Its Backing
    *size of /dev/*at most what the backing has*    Set The Text    ${MEMORY}/target/size    8388608


*** Keywords ***
Make A Good Guest's Xml
    [Documentation]    Takes a host, and makes the XML of a guest on two namespaces; the good one is taken by libvirt.
    Take A Host
    ${one} =    Create Devdax Namespace    64MiB    one
    ${two} =    Create Devdax Namespace    64MiB    two
    VAR    @{both} =    ${one}    ${two}
    ${xml} =    New Guest Xml    vpmem=${both}    name=mistaken
    ${good} =    Define Guest From Xml    ${xml}
    Undefine Guest    ${good}
    VAR    ${GOOD} =    ${xml}    scope=SUITE
    VAR    ${FIRST} =    ${one.chardev}    scope=SUITE
    VAR    ${LARGEST_LABEL} =    ${{int($one.size) // 1024}}    scope=SUITE

Mistake Should Be Refused
    [Documentation]    Makes one mistake, expects the message, and proves that no guest and no file came of it.
    [Arguments]    ${message}    ${edit}    @{arguments}
    ${root} =    XML.Parse Xml    ${GOOD}
    Run Keyword    ${edit}    ${root}    @{arguments}
    ${mistaken} =    XML.Element To String    ${root}
    Run Keyword And Expect Error    ${message}    Define Guest From Xml    ${mistaken}
    ${guests} =    Get Guests
    Should Not Contain    ${guests}    mistaken
    Run On Host    test    !    -e    /dev/dax99.9

Set The Text
    [Documentation]    Gives an element another text.
    [Arguments]    ${root}    ${xpath}    ${text}
    XML.Set Element Text    ${root}    ${text}    xpath=${xpath}

Set The Attribute
    [Documentation]    Gives an element an attribute.
    [Arguments]    ${root}    ${xpath}    ${name}    ${value}
    XML.Set Element Attribute    ${root}    ${name}    ${value}    xpath=${xpath}

Remove The Attribute
    [Documentation]    Takes an attribute from an element.
    [Arguments]    ${root}    ${xpath}    ${name}
    XML.Remove Element Attribute    ${root}    ${name}    xpath=${xpath}

Remove The Element
    [Documentation]    Takes an element out.
    [Arguments]    ${root}    ${xpath}
    XML.Remove Element    ${root}    xpath=${xpath}

Add An Element
    [Documentation]    Puts an element into another.
    [Arguments]    ${root}    ${xpath}    ${element}
    XML.Add Element    ${root}    ${element}    xpath=${xpath}
