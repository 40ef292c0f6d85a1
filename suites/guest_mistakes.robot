*** Settings ***
Documentation     The common mistakes in a guest's XML. Each mistake is refused with a specific message, and nothing is
...               created.
...
...               Every test makes one mistake in the XML of a valid guest and tries to define it.

Library           XML
Resource          ../resources/guest.resource

Suite Setup       Make A Good Guest's Xml
Suite Teardown    Give The Host Back
Test Template     Mistake Should Be Refused

Test Tags         gd-04


*** Variables ***
${MEMORY}    devices/memory[2]


*** Test Cases ***
Missing Maximum Memory Is Refused
    *domain XML 'without <maxMemory>'*slots='2'*    Remove The Element    maxMemory
Missing Slots Are Refused
    *slots of <maxMemory> 'none'*2 or more*    Remove The Attribute    maxMemory    slots
A Missing Node Is Refused
    *node of /dev/*None*a NUMA node of the guest*    Remove The Element    ${MEMORY}/target/node
A Node Out Of Range Is Refused
    *node of /dev/* 3 cannot*a NUMA node of the guest: 0*    Set The Text    ${MEMORY}/target/node    3
A Missing Path Is Refused
    *memory device 'without a path'*absolute path*    Remove The Element    ${MEMORY}/source/path
A Relative Path Is Refused
    *path 'dax0.0'*absolute path*    Set The Text    ${MEMORY}/source/path    dax0.0
The Same Path Twice Is Refused
    *path '/dev/*another backing*    Set The Text    ${MEMORY}/source/path    ${FIRST}
A Label That Is Too Small Is Refused
    *label_size of /dev/* '64KiB'*at least 128KiB*    Set The Text    ${MEMORY}/target/label/size    64
A Label As Large As The Device Is Refused
    *label_size of /dev/* '*'*less than*    Set The Text    ${MEMORY}/target/label/size    ${LARGEST_LABEL}
A UUID On This Architecture Is Refused
    *uuid of /dev/*only pSeries*    Add An Element    ${MEMORY}    <uuid>94d02aa7-b6f2-4a01-a98b-bb4ad5be5e8c</uuid>
Discard Is Refused
    *discard of /dev/* 'yes'*no discard*    Set The Attribute    ${MEMORY}    discard    yes
A Missing Access Attribute Is Refused
    *access of /dev/* 'none'*nothing persists*    Remove The Attribute    ${MEMORY}    access
A Label On Virtio Pmem Is Refused
    *label_size of /dev/*virtio-pmem has no label*    Set The Attribute    ${MEMORY}    model    virtio-pmem
A Missing Backing Is Refused
    *path '/dev/dax99.9'*a device node or file*    Set The Text    ${MEMORY}/source/path    /dev/dax99.9
A Device Larger Than Its Backing Is Refused
    *size of /dev/*at most the size of the backing*    Set The Text    ${MEMORY}/target/size    1048576


*** Keywords ***
Make A Good Guest's Xml
    [Documentation]    Take a host, and create the XML of a valid guest on two namespaces. libvirt accepts this XML.
    Take A Host With Two Namespaces
    VAR    @{both} =    ${ONE}    ${TWO}
    ${xml} =    New Guest Xml    vpmem=${both}    name=mistaken
    ${good} =    Define Guest From Xml    ${xml}
    Undefine Guest    ${good}
    VAR    ${GOOD} =    ${xml}    scope=SUITE
    VAR    ${FIRST} =    /dev/${ONE.chardev}    scope=SUITE
    ${kib} =    Get Size In Kib    ${ONE.size}
    VAR    ${LARGEST_LABEL} =    ${kib}    scope=SUITE

Mistake Should Be Refused
    [Documentation]    Make one mistake, expect the message, and check that no guest and no file was created.
    [Arguments]    ${message}    ${edit}    @{arguments}
    ${root} =    XML.Parse Xml    ${GOOD}
    Run Keyword    ${edit}    ${root}    @{arguments}
    ${mistaken} =    XML.Element To String    ${root}
    Run Keyword And Expect Error    ${message}    Define Guest From Xml    ${mistaken}
    ${guests} =    Get Guests
    Should Not Contain    ${guests}    mistaken
    Run On Host    test    !    -e    /dev/dax99.9

Set The Text
    [Documentation]    Set the text of an element.
    [Arguments]    ${root}    ${xpath}    ${text}
    XML.Set Element Text    ${root}    ${text}    xpath=${xpath}

Set The Attribute
    [Documentation]    Set an attribute of an element.
    [Arguments]    ${root}    ${xpath}    ${name}    ${value}
    XML.Set Element Attribute    ${root}    ${name}    ${value}    xpath=${xpath}

Remove The Attribute
    [Documentation]    Remove an attribute from an element.
    [Arguments]    ${root}    ${xpath}    ${name}
    XML.Remove Element Attribute    ${root}    ${name}    xpath=${xpath}

Remove The Element
    [Documentation]    Remove an element.
    [Arguments]    ${root}    ${xpath}
    XML.Remove Element    ${root}    xpath=${xpath}

Add An Element
    [Documentation]    Add an element to another element.
    [Arguments]    ${root}    ${xpath}    ${element}
    XML.Add Element    ${root}    ${element}    xpath=${xpath}
