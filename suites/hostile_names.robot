*** Settings ***
Documentation     Names and paths made to run something run nothing: each is refused with its name, or kept as it is.
...
...               Whatever ran would make a file on the host or on this machine, and there must be none. What is kept is
...               read back by the host's own tools.

Library           OperatingSystem
Library           String
Resource          ../resources/host.resource

Suite Setup       Take A Host And Make Up Hostile Texts
Suite Teardown    Give The Host Back
Test Teardown     Clean Up Host

Test Tags         sc-03


*** Variables ***
${MARK}      /tmp/tmp.vpmem-hostile-${{secrets.token_hex(4)}}
# Each is completed with the file that it would make; %n is a line break.
@{SHAPES}    $(touch {})    `touch {}`    ; touch {}    | touch {}    && touch {}    ' ; touch {} ; '
...          " ; touch {} ; "    %ntouch {}%n    --help    -f    ../{}    *    {}${SPACE}    <a>&b;    ü€中


*** Test Cases ***
A Namespace's Name Runs Nothing
    [Documentation]    ndctl's own listing has the name as it was given, or there is no such namespace.
    ${region} =    Get Roomiest Region    at_least=32MiB
    FOR    ${text}    IN    @{HOSTILE}
        ${kept} =    Was Accepted
        ...    Create Namespace
        ...    ${region}
        ...    mode=devdax
        ...    size=at least 16MiB
        ...    name=${text}
        Namespace Should Be Listed    ${text}    expected=${kept}
        Nothing Should Have Run
        Clean Up Host
    END

A Guest's Name Runs Nothing
    [Documentation]    virsh has the name as it was given, or there is no such domain.
    FOR    ${text}    IN    @{HOSTILE}
        ${kept} =    Was Accepted    Define Guest    name=${text}
        ${domains} =    Run On Host    virsh    list    --all    --name
        Should Be Equal    ${{$text.strip() in $domains.text}}    ${kept}
        Nothing Should Have Run
        Clean Up Host
    END

A Claim's Label And A Setting Run Nothing
    [Documentation]    What is no label of the setting is refused; nothing is held then.
    Create Pmem Namespaces    SMALL:hostile_0    SMALL=at least 16MiB
    FOR    ${text}    IN    @{HOSTILE}
        ${kept} =    Was Accepted    Claim Namespace    label=${text}
        Should Not Be True    ${kept}
        ${kept} =    Was Accepted    Set Pmem Namespaces    SMALL:${text}
        Should Not Be True    ${kept}
        Get Pmem Used    SMALL    ==    0
        Nothing Should Have Run
    END

A File's Path Runs Nothing
    [Documentation]    Bytes are written to and read from the very file; what is no absolute path is refused.
    ${directory} =    Run On Host    mktemp    -d
    FOR    ${text}    IN    @{HOSTILE}
        ${name} =    Evaluate    $text.replace('/', '_')[:200]
        VAR    ${path} =    ${directory.text.strip()}/${name}
        Run On Host    sh    -c    head -c 8192 /dev/zero >"$1"    sh    ${path}
        Write Pattern    ${path}    seed=${text}    length=8KiB    foreign=True
        Pattern Should Be Intact    ${path}    seed=${text}    length=8KiB
        Content Should Differ From Zeros    ${path}
        ${kept} =    Was Accepted    Write Pattern    ${text}    seed=x    length=4KiB    foreign=True
        Should Not Be True    ${kept}
        Nothing Should Have Run
    END
    [Teardown]    Run On Host    rm    -rf    ${directory.text.strip()}

A Command's Arguments Arrive As They Are
    [Documentation]    Each is one argument, whatever is in it.
    FOR    ${text}    IN    @{HOSTILE}
        ${echoed} =    Run On Host    printf    %s|%s    ${text}    end
        Should Be Equal    ${echoed.text}    ${text}|end    strip_spaces=False
        Nothing Should Have Run
    END


*** Keywords ***
Take A Host And Make Up Hostile Texts
    [Documentation]    A short one of each shape, and a long one.
    Take A Host
    VAR    @{HOSTILE} =    ${{'x' * 3000}}    scope=SUITE
    FOR    ${shape}    IN    @{SHAPES}
        ${text} =    String.Replace String    ${shape}    {}    ${MARK}
        ${text} =    String.Replace String    ${text}    %n    \n
        VAR    @{HOSTILE} =    @{HOSTILE}    ${text}    scope=SUITE
    END

Was Accepted
    [Documentation]    Runs a keyword; returns whether it accepted what it was given. A refusal must say what would be.
    [Arguments]    ${keyword}    @{arguments}    &{named}
    TRY
        Run Keyword    ${keyword}    @{arguments}    &{named}
    EXCEPT    *cannot be used: expected*    No namespace *    type=GLOB    AS    ${refusal}
        Log    ${refusal}
        RETURN    ${False}
    END
    RETURN    ${True}

Namespace Should Be Listed
    [Documentation]    The host's own tool lists the name exactly as it was given, if that was accepted.
    [Arguments]    ${name}    ${expected}
    ${listed} =    Run On Host    ndctl    list    -N
    ${names} =    Evaluate    [each.get('name') for each in json.loads($listed.text or '[]')]
    Should Be Equal    ${{$name in $names}}    ${expected}

Content Should Differ From Zeros
    [Documentation]    The host's own tool finds other bytes in the file.
    [Arguments]    ${path}
    Run On Host    cmp    -s    -n    8192    --    ${path}    /dev/zero    expected_status=1

Nothing Should Have Run
    [Documentation]    Neither on the host nor on this machine is there a file that a text would have made.
    Run On Host    test    !    -e    ${MARK}
    OperatingSystem.File Should Not Exist    ${MARK}
