*** Settings ***
Documentation     The storage of a database: volumes with the requested properties that keep their data.

Resource          resources/database.resource

Suite Setup       Take The Database Host
Suite Teardown    Give The Database Host Back


*** Test Cases ***
A Volume Has The Requested Properties
    [Documentation]    ndctl, daxctl and the kernel agree on the volume.
    ${volume} =    Make A Volume    orders
    Namespace Views Should Agree    ${volume}
    Get Namespace Property    ${volume}    mode    ==    devdax

A Volume Keeps Its Data
    [Documentation]    The data survives disabling and enabling the volume.
    ${volume} =    Make A Volume    invoices
    Volume Should Keep Its Data    ${volume}

An Unknown Volume Name Destroys Nothing
    [Documentation]    An unknown name is refused, and the message lists the existing namespaces.
    Run Keyword And Expect Error    No namespace 'no-such-volume'*    Destroy Namespace    no-such-volume
