*** Settings ***
Documentation     Nova's own functional test of servers with vPMEM, on a real Nova with real namespaces and guests.
...
...               Placement, the live XML, the argv of the running QEMU, QEMU's monitor, the guest's own kernel and the
...               bytes of the namespaces confirm each server.

Library           Collections
Resource          ../../resources/cloud.resource

Suite Setup       Take The Cloud
Suite Teardown    Give The Cloud Back
Test Teardown     Clean Up And Wait For Placement

Test Tags         openstack


*** Test Cases ***
Two Servers Get One Namespace Each And A Third Fails Until A Delete
    [Documentation]    Nova's test_create_servers_with_vpmem, step by step.
    [Tags]    nv-01    nv-10    os-01
    Placement Should Have The Setting
    ${flavor} =    Create Flavor    small    hw:pmem=SMALL
    ${one} =    Create An Active Server    ${flavor}    one
    ${two} =    Create An Active Server    ${flavor}    two
    Both Should Use A Namespace Each    ${one}    ${two}
    A Third Server Should Be In Error    ${flavor}
    Deleting The First Should Wipe Its Namespace Alone    ${one}    ${two}
    ${four} =    Create An Active Server    ${flavor}    four
    Both Should Use A Namespace Each    ${two}    ${four}

The Devices Of A Server Have The Order Of The Flavor's Labels
    [Documentation]    A label may be repeated. The namespaces of the devices have the labels of the flavor, in its
    ...    order.
    [Tags]    nv-05    os-05
    ${flavor} =    Create Flavor    three    hw:pmem=SMALL,4GB,SMALL
    ${server} =    Create An Active Server    ${flavor}    three
    Server Should Use    ${server}    SMALL    4GB    SMALL
    ${namespaces} =    Get Namespaces Of Server    ${server}
    ${names} =    Get Field Of Each    ${namespaces}    name
    Should Be Equal    ${names}[1]    ns_0
    Collections.Sort List    ${names}
    VAR    @{all} =    ns_0    ns_1    ns_2
    Should Be Equal    ${names}    ${all}

Deleting A Server Wipes Its Namespace To The End
    [Documentation]    The guest writes to the start and to the end of its device, and to its label area, which is
    ...    behind the device. After the delete, the whole namespace has only zeros.
    [Tags]    nv-06    os-06
    ${server}    ${namespace} =    Create A Server With A Pattern    deleted    seed=at the start
    Server Has Written At The End And In The Label Area    ${server}    ${namespace}
    Delete Server    ${server}
    Content Should Be Zero    ${namespace}

A Failed Wipe Leaves The Server In ERROR With Its Namespace
    [Documentation]    The data is not given to another server, and a second delete wipes it.
    [Tags]    nv-06    os-06
    [Setup]    Skip Unless The Cloud Is The Lab's
    ${server}    ${namespace} =    Create A Server With A Pattern    kept    seed=not wiped
    Deleting Should Fail Where No Wipe Works    ${server}    ${namespace}
    Placement Should Hold    ${server}    SMALL
    ${guest} =    Get Server Guest    ${server}
    Host Should Hold Guest Pattern    ${guest}    ${namespace}    seed=not wiped    length=4MiB
    The Next Server Should Have Another Namespace    ${namespace}
    Delete Server    ${server}
    Content Should Be Zero    ${namespace}

A Server Boots From An Image That The Run Has Uploaded
    [Documentation]    The image is reported as a leak until the clean-up deletes it with the server and the flavor.
    [Tags]    os-13
    [Setup]    Skip Unless The Cloud Is The Lab's
    ${image} =    Upload An Image With The Kernel Of The Lab's Guests
    ${flavor} =    Create Flavor    uploaded    hw:pmem=SMALL
    ${server} =    Request Server    ${flavor}    uploaded    image=${image.id}
    Server Should Become    ${server}    ACTIVE
    Server Should Use    ${server}    SMALL
    Run Keyword And Expect Error    *leaked: image ${image.name}*    Cloud Should Have No Leaks    timeout=0 s
    ${deleted} =    Clean Up Cloud
    Length Should Be    ${deleted}    3
    Cloud Should Have No Leaks
    Run Keyword And Expect Error    No image '${image.id}'*    Create Server    ${flavor}    image=${image.id}


*** Keywords ***
Upload An Image With The Kernel Of The Lab's Guests
    [Documentation]    Upload an empty disk as an image that boots the kernel and the initramfs of the lab's guests.
    ...    Return the image.
    VAR    ${disk} =    ${TEMPDIR}/vpmem-disk-${{os.getpid()}}.raw
    Process.Run Process    truncate    --size\=1M    ${disk}
    ${command_line} =    Get Kernel Command Line Of Lab Guests
    TRY
        ${image} =    Create Image
        ...    ${disk}
        ...    name=uploaded
        ...    kernel=${IMAGE}-kernel
        ...    ramdisk=${IMAGE}-initrd
        ...    os_command_line=${command_line}
        ...    hw_qemu_guest_agent=yes
        ...    hw_disk_bus=virtio
        ...    hw_rng_model=virtio
    FINALLY
        OperatingSystem.Remove File    ${disk}
    END
    RETURN    ${image}

Server Has Written At The End And In The Label Area
    [Documentation]    Write a pattern to the end of the device inside the guest, and text to its label area. Find both
    ...    on the host.
    [Arguments]    ${server}    ${namespace}
    ${guest} =    Get Server Guest    ${server}
    ${devices} =    Get Guest Devices    ${guest}
    ${size} =    Get Guest Region Size    ${guest}    ${devices}[0]
    ${end} =    Subtract Size    ${size}    4MiB
    Write Pattern In Guest    ${guest}    ${namespace}    seed=at the end    length=4MiB    offset=${end}
    Host Should Hold Guest Pattern    ${guest}    ${namespace}    seed=at the end    length=4MiB    offset=${end}
    Run Script In Guest    ${guest}    write_text_to_label_areas.sh
    Label Area Should Begin With    ${namespace}    label

Deleting Should Fail Where No Wipe Works
    [Documentation]    Delete the server while the program that Nova wipes with fails on the compute host. Fail unless
    ...    the server is in ERROR with a fault that names the device.
    [Arguments]    ${server}    ${namespace}
    Run On Host    mount    --bind    /bin/false    /usr/bin/daxio
    TRY
        Run Keyword And Expect Error
        ...    *is ERROR: Failed to clean up the vpmem backend device ${namespace.device}*
        ...    Delete Server    ${server}
    FINALLY
        Run On Host    umount    /usr/bin/daxio
    END

The Next Server Should Have Another Namespace
    [Documentation]    Create a server with a namespace of the same label. Fail if it has this namespace.
    [Arguments]    ${namespace}
    ${flavor} =    Create Flavor    next    hw:pmem=SMALL
    ${next} =    Create An Active Server    ${flavor}    next
    ${found} =    Get Namespaces Of Server    ${next}
    Should Not Be Equal    ${found[0].uuid}    ${namespace.uuid}

Both Should Use A Namespace Each
    [Documentation]    Fail unless each server uses one namespace of the label, not the same one.
    [Arguments]    ${one}    ${two}
    Server Should Use    ${one}    SMALL
    Server Should Use    ${two}    SMALL
    ${of_one} =    Get Namespaces Of Server    ${one}
    ${of_two} =    Get Namespaces Of Server    ${two}
    VAR    @{both} =    ${of_one}[0]    ${of_two}[0]
    ${names} =    Get Field Of Each    ${both}    name
    Collections.Sort List    ${names}
    Should Be Equal    ${names}    ${{['ns_1', 'ns_2']}}
    Get Placement Used    SMALL    ==    2

A Third Server Should Be In Error
    [Documentation]    Fail unless a server for which no namespace is free is in ERROR with a fault, without an
    ...    allocation and without a domain.
    [Arguments]    ${flavor}
    ${before} =    Get Guests
    ${three} =    Request Server    ${flavor}    three
    Server Should Become    ${three}    ERROR
    Get Server Fault    ${three}    contains    No valid host was found
    Placement Should Hold    ${three}
    ${after} =    Get Guests
    Should Be Equal    ${before}    ${after}
    Delete Server    ${three}

Placement Should Have The Setting
    [Documentation]    Fail unless placement has the namespaces of the setting, and none of them is in use.
    Get Placement Total    SMALL    ==    2
    Get Placement Total    4GB    ==    1
    Get Placement Used    SMALL    ==    0

Deleting The First Should Wipe Its Namespace Alone
    [Documentation]    Let both servers write. Delete the first one, and fail unless its namespace has only zeros and
    ...    the second server has its data.
    [Arguments]    ${one}    ${two}
    ${namespace} =    Both Have Written    ${one}    ${two}
    Delete Server    ${one}
    Content Should Be Zero    ${namespace}
    Wait Until Keyword Succeeds    30 s    1 s    Get Placement Used    SMALL    ==    1
    The Second Server Should Have Its Data    ${two}

Both Have Written
    [Documentation]    Write a pattern of its own in each server's guest. Return the first server's namespace.
    [Arguments]    ${one}    ${two}
    ${of_one} =    Get Namespaces Of Server    ${one}
    ${of_two} =    Get Namespaces Of Server    ${two}
    Server Has Written    ${one}    ${of_one}[0]    seed=tenant one
    Server Has Written    ${two}    ${of_two}[0]    seed=tenant two
    RETURN    ${of_one}[0]

The Second Server Should Have Its Data
    [Documentation]    Fail unless the delete of its neighbour left the server's data, in the guest and on the host.
    [Arguments]    ${server}
    ${guest} =    Get Server Guest    ${server}
    ${namespaces} =    Get Namespaces Of Server    ${server}
    Guest Pattern Should Be Intact    ${guest}    ${namespaces}[0]    seed=tenant two    length=4MiB
    Host Should Hold Guest Pattern    ${guest}    ${namespaces}[0]    seed=tenant two    length=4MiB
