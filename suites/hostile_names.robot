*** Settings ***
Documentation     Names and paths that try to run a command run nothing. Each text is refused with its value, or kept
...               unchanged.
...
...               A command that ran would create a file on the host or on this machine. No such file may exist. The
...               host's own tools read the kept texts back.

Library           OperatingSystem
Library           String
Resource          ../resources/host.resource

Suite Setup       Take A Host And Make Up Hostile Texts
Suite Teardown    Give The Host Back
Test Teardown     Clean Up Host

Test Tags         sc-03


*** Variables ***
${MARK}      /tmp/tmp.vpmem-hostile-${{secrets.token_hex(4)}}
# Each text gets the path of the file that it tries to create. %n is a line break.
@{SHAPES}    $(touch {})    `touch {}`    ; touch {}    | touch {}    && touch {}    ' ; touch {} ; '
...          " ; touch {} ; "    %ntouch {}%n    --help    -f    ../{}    *    {}${SPACE}    <a>&b;    ü€中


*** Test Cases ***
A Hostile Namespace Name Runs No Command
    [Documentation]    ndctl's own listing has the name unchanged, or there is no such namespace.
    Choose A Region
    FOR    ${text}    IN    @{HOSTILE}
        ${kept} =    Was Accepted
        ...    Create Namespace
        ...    ${REGION}
        ...    mode=devdax
        ...    size=at least 16MiB
        ...    name=${text}
        Namespace Should Be Listed    ${text}    expected=${kept}
        Nothing Should Have Run
        Clean Up Host
    END

A Hostile Guest Name Runs No Command
    [Documentation]    virsh has the name unchanged, or there is no such domain.
    FOR    ${text}    IN    @{HOSTILE}
        ${kept} =    Was Accepted    Define Guest    name=${text}
        Domain Should Be Listed    ${text}    expected=${kept}
        Nothing Should Have Run
        Clean Up Host
    END

A Hostile Claim Label Or Setting Runs No Command
    [Documentation]    A text that is not a label of the setting is refused, and nothing is claimed.
    [Setup]    Skip Unless Memory Can Be Mapped
    Skip Unless A Region Has Labels
    Create Pmem Namespaces    SMALL:hostile_0    SMALL=at least 16MiB
    FOR    ${text}    IN    @{HOSTILE}
        ${kept} =    Was Accepted    Claim Namespaces    ${text}
        Should Not Be True    ${kept}
        ${kept} =    Was Accepted    Set Pmem Namespaces    SMALL:${text}
        Should Not Be True    ${kept}
        Get Pmem Used    SMALL    ==    0
        Nothing Should Have Run
    END

A Hostile File Path Runs No Command
    [Documentation]    Bytes are written to and read from exactly this file. A path that is not absolute is refused.
    [Setup]    Create Directory For Hostile Names
    FOR    ${text}    IN    @{HOSTILE}
        ${path} =    Create File With Name    ${text}
        Write Pattern    ${path}    seed=${text}    length=8KiB    foreign=True
        Pattern Should Be Intact    ${path}    seed=${text}    length=8KiB
        Content Should Differ From Zeros    ${path}
        ${kept} =    Was Accepted    Write Pattern    ${text}    seed=x    length=4KiB    foreign=True
        Should Not Be True    ${kept}
        Nothing Should Have Run
    END
    [Teardown]    Remove Files With Hostile Names

Hostile Arguments Arrive Unchanged
    [Documentation]    Each text arrives as one argument.
    FOR    ${text}    IN    @{HOSTILE}
        ${echoed} =    Run On Host    printf    %s|%s    ${text}    end
        Should Be Equal    ${echoed.text}    ${text}|end    strip_spaces=False
        Nothing Should Have Run
    END


*** Keywords ***
Take A Host And Make Up Hostile Texts
    [Documentation]    Take a host, and create a short text of each shape and a long text.
    Take A Host
    ${long} =    Evaluate    'x' * 3000
    VAR    @{HOSTILE} =    ${long}    scope=SUITE
    FOR    ${shape}    IN    @{SHAPES}
        ${text} =    String.Replace String    ${shape}    {}    ${MARK}
        ${text} =    String.Replace String    ${text}    %n    \n
        VAR    @{HOSTILE} =    @{HOSTILE}    ${text}    scope=SUITE
    END

Was Accepted
    [Documentation]    Run a keyword and return whether it accepted its arguments. A refusal must say what is valid.
    [Arguments]    ${keyword}    @{arguments}    &{named}
    TRY
        Run Keyword    ${keyword}    @{arguments}    &{named}
    EXCEPT    *cannot be used: expected*    No namespace *    type=GLOB    AS    ${refusal}
        Log    ${refusal}
        RETURN    ${False}
    END
    RETURN    ${True}

Namespace Should Be Listed
    [Documentation]    Fail unless the host's own tool lists an accepted name unchanged, and does not list a refused
    ...    name.
    [Arguments]    ${name}    ${expected}
    ${listed} =    Get Output Of Host    ndctl    list    -N
    ${namespaces} =    Read Json    ${listed}
    VAR    @{names} =    @{EMPTY}
    FOR    ${namespace}    IN    @{namespaces}
        # A namespace without a name has no such key.
        IF    'name' in $namespace
            VAR    @{names} =    @{names}    ${namespace}[name]
        END
    END
    Should Be Equal    ${{$name in $names}}    ${expected}

Domain Should Be Listed
    [Documentation]    Fail unless virsh lists an accepted name unchanged, and does not list a refused name.
    [Arguments]    ${name}    ${expected}
    ${domains} =    Get Output Of Host    virsh    list    --all    --name
    Should Be Equal    ${{$name.strip() in $domains}}    ${expected}

Create Directory For Hostile Names
    [Documentation]    Create a directory on the host for files with hostile names.
    ${directory} =    Get Output Of Host    mktemp    -d
    VAR    ${DIRECTORY} =    ${directory}    scope=SUITE

Create File With Name
    [Documentation]    Create a file of 8 KiB of zeros on the host, and return its path. The name is the text with
    ...    at most 200 characters, and with `_` in place of `/`.
    [Arguments]    ${text}
    VAR    ${path} =    ${DIRECTORY}/${{$text.replace('/', '_')[:200]}}
    Run On Host    dd    if\=/dev/zero    of\=${path}    bs\=8192    count\=1    status\=none
    RETURN    ${path}

Remove Files With Hostile Names
    [Documentation]    Remove the directory, and clean up the host.
    Run On Host    rm    -rf    ${DIRECTORY}
    Clean Up Host

Content Should Differ From Zeros
    [Documentation]    Fail unless the host's own tool finds bytes other than zero in the file.
    [Arguments]    ${path}
    Run On Host    cmp    -s    -n    8192    --    ${path}    /dev/zero    expected_status=1

Nothing Should Have Run
    [Documentation]    Fail if a file that a text tries to create exists on the host or on this machine.
    Run On Host    test    !    -e    ${MARK}
    OperatingSystem.File Should Not Exist    ${MARK}
