"""Check the account that logs in: its login shell, the output of the login shell, and whether commands run as root."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import PurePosixPath

from VpmemLibrary.doctor.findings import Finding, ok, problem, warning
from VpmemLibrary.doctor.reach import Account

_SHOWN = 120

# For each shell: its rc file, and a first line for the file. In a shell that runs one command, this line ends the file.
_QUIET = {
    "bash": ("~/.bashrc", "case $- in *i*) ;; *) return ;; esac"),
    "zsh": ("~/.zshenv", "[[ -o interactive ]] || return"),
    "tcsh": ("~/.tcshrc", "if ( ! $?prompt ) exit"),
    "csh": ("~/.cshrc", "if ( ! $?prompt ) exit"),
    "fish": ("~/.config/fish/config.fish", "status is-interactive; or return"),
}

_WORDS = {"bash": "bash", "zsh": "zsh", "tcsh": "csh", "csh": "csh", "fish": "fish", "ksh": "ksh"}
_WORDS |= {"nu": "nushell", "xonsh": "xonsh"}


def check_shell(account: Account) -> Iterator[Finding]:
    """Check the login shell, and the text that it prints before and after a command."""
    if not account.ran and account.facts:
        yield problem(
            "login shell",
            f"it runs /bin/sh, but its answer to the question {list(account.facts)[-1]!r} did not arrive in time",
            "Find the program that hangs on the host: ps -o pid,etime,args -u USER",
        )
        return
    if not account.ran:
        printed = _shown(account.before + account.complaints)
        yield problem(
            "login shell",
            f"it did not run /bin/sh; it printed {printed or 'nothing'}. The account has no usable shell, its rc file "
            "starts another shell or exits, or sshd forces a command (ForceCommand)",
            "sudo chsh -s /bin/bash USER, and let the rc file test for a terminal ([ -t 0 ]) before it runs programs",
        )
        return
    shell = account.shell
    yield ok("login shell", f"{shell or 'none in the user database'} of user {account.user}; it runs /bin/sh")
    rc = ", ".join(rc_files(account))
    home, directory = account.facts.get("home", ""), account.facts.get("directory", "")
    homeless = home if account.facts.get("homeless") else ""
    noise = [
        f"{where}: {shown}"
        for where, text in (
            ("standard output", account.before),
            ("standard error", account.complaints),
            ("standard output, after the command", account.after),
        )
        if (shown := _shown(text)) and not (homeless and homeless in text)  # sshd prints that the home is missing
    ]
    if noise:
        read = f" (it may come from {rc})" if rc else ""
        yield warning("noise", f"the login shell prints on {'; on '.join(noise)}{read}", quiet(shell))
    else:
        yield ok("noise", "the login shell prints no text of its own")
    if homeless:
        yield warning(
            "directory",
            f"the home {home} does not exist, so commands start in {directory}",
            f"As root: mkhomedir_helper {shlex.quote(account.user)}, or mount the file system of the home",
        )
    elif home and directory and PurePosixPath(home) != PurePosixPath(directory):
        yield warning(
            "directory",
            f"commands start in {directory}, not in {home}",
            "Remove the cd from the rc file, or set the home",
        )


def rc_files(account: Account) -> list[str]:
    """Return the account's files that the login shell or sshd runs before each command."""
    word = _WORDS.get(PurePosixPath(account.shell).name, "")
    files = account.facts.get("rc", "").split("\n")
    return [each for each in files if each.endswith(("ssh/rc", "sshrc")) or (word and word in each)]


def quiet(shell: str) -> str:
    """Return the command that makes the rc file of a login shell silent when the shell runs one command."""
    name = PurePosixPath(shell).name
    if name not in _QUIET:
        return "Let the rc file print only after a test for a terminal"
    file, line = _QUIET[name]
    return f"sed -i '1i {line}' {file}"


def check_elevation(account: Account, *, sudo: bool) -> Iterator[Finding]:
    """Check that commands run as root. `sudo` says whether the library runs commands through sudo."""
    if not account.ran:
        return
    if account.root and not sudo:
        yield ok("root", "the user that logs in is root")
        return
    state, _, said = account.facts.get("sudo", "").partition("\n")
    kind = account.facts.get("sudo_kind", "") or "sudo"
    doas, _, doas_said = account.facts.get("doas", "").partition("\n")
    if "works" in (state, doas):  # if both programs exist, the library uses the program that works
        program = kind if state == "works" else "doas"
        if sudo:
            yield ok("root", f"{program} runs commands as root without a password")
            if state == "works" and account.facts.get("sudo_logs"):
                yield warning(
                    "sudo log",
                    "sudo logs what commands print (log_output). Some versions of sudo then lose the end of outputs of "
                    "more than 64 KiB, and still exit 0",
                    f"Add the line `Defaults:{_shown(account.user)} !log_output` to the end of sudoers",
                )
        else:
            yield problem(
                "root",
                f"commands run as {account.user}, who is not root; {program} would run them as root",
                "Add host_sudo = yes to the hosts file, or --sudo to this command",
            )
        return
    if state == "absent" and doas == "absent":
        yield problem(
            "root", f"user {account.user} is not root, and the host has neither sudo nor doas", "apt install sudo"
        )
        return
    program, said = ("sudo", said) if state != "absent" else ("doas", doas_said)
    yield problem(
        "root",
        f"{program} does not run commands of {account.user} without a password: {_shown(said) or 'it printed nothing'}",
        permit(account.user, program, said),
    )


def permit(user: str, program: str, said: str = "") -> str:
    """Return the command by which root lets a user run commands as root without a password.

    `said` is the text that sudo or doas printed when it refused.
    """
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", user):  # any other name would need escapes
        return "Let the user run every command as root without a password (NOPASSWD: ALL in a file of /etc/sudoers.d)"
    if program == "doas":
        return f"As root: echo 'permit nopass {user}' >>/etc/doas.conf"
    lines = f"{user} ALL=(ALL:ALL) NOPASSWD: ALL"
    if "tty" in said:
        lines = f"Defaults:{user} !requiretty\\n{lines}"
    file = f"/etc/sudoers.d/vpmem-{user.replace('.', '-')}"  # sudo ignores files with a dot in their name
    return f"As root: printf '{lines}\\n' >{file} && chmod 440 {file} && visudo -c"


def _shown(text: str) -> str:
    """Return the beginning of a text as one line. Return an empty text if the text has only white space."""
    words = " ".join(text.split())
    return words if len(words) <= _SHOWN else f"{words[:_SHOWN]} ..."
