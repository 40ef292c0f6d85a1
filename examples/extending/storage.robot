*** Settings ***
Documentation     Keywords of another library work on the current host of VpmemLibrary.

Library           VpmemLibrary
Library           StorageKeywords.py

Suite Setup       Open Local Host
Suite Teardown    Close All Hosts


*** Test Cases ***
A Missing Option Is Reported With The Options That The Kernel Has
    [Documentation]    The failure names the host and the missing option.
    Run Keyword And Expect Error
    ...    The kernel of local was started without no-such-option:*
    ...    Kernel Should Be Started With    no-such-option
