*** Settings ***
Documentation     The storage of a database: volumes that are what was asked for and keep their data.

Resource          resources/database.resource

Suite Setup       Take The Database Host
Suite Teardown    Give The Database Host Back


*** Test Cases ***
A Volume Is What Was Asked For
    [Documentation]    ndctl, daxctl and the kernel say the same of it.
    ${volume} =    Make A Volume    orders
    Namespace Views Should Agree    ${volume}
    Get Namespace Mode    ${volume}    ==    devdax

A Volume Keeps Its Data
    [Documentation]    Across being taken out of use.
    ${volume} =    Make A Volume    invoices
    Volume Should Keep Its Data    ${volume}

Nothing Else Is Destroyed
    [Documentation]    A name that nobody has is refused, and the message says what is there.
    Run Keyword And Expect Error    No namespace 'no-such-volume'*    Destroy Namespace    no-such-volume
