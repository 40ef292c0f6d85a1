# shellcheck shell=sh
# Print facts about the account that logs in. /bin/sh reads this script from standard input. The doctor replaces the
# word VPMEM_MARK first. A command line would need the quoting rules of the login shell, which is not known yet.
vpmem_mark=VPMEM_MARK
echo "$vpmem_mark"
echo "$vpmem_mark" >&2
exec 2>/dev/null
LC_ALL=C; export LC_ALL
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin
fact() { printf '%s\0' "$1"; shift; "$@" </dev/null; printf '\0'; }
user=$(id -un)
working=
limit= # sudo may wait for a directory server that does not answer
command -v timeout >/dev/null && limit='timeout 4'
passwd() { getent passwd "$user" || grep "^$user:" /etc/passwd; }
rc_files() {
    for file in "$HOME/.ssh/rc" /etc/ssh/sshrc "$HOME/.bashrc" /etc/bash.bashrc /etc/bashrc "$HOME/.zshenv" /etc/zshenv \
        /etc/zsh/zshenv "$HOME/.tcshrc" "$HOME/.cshrc" /etc/csh.cshrc "$HOME/.config/fish/config.fish" \
        /etc/fish/config.fish "$HOME/.kshrc" "$HOME/.config/nushell/config.nu" "$HOME/.config/nushell/env.nu" \
        "$HOME/.xonshrc" "$HOME/.config/xonsh/rc.xsh"; do
        [ -s "$file" ] && echo "$file"
    done
}
# Only the command's own output shows that the program ran the command. Exit statuses and messages differ by program,
# version and language.
elevated() { # program
    command -v "$1" >/dev/null || { echo absent; return; }
    # shellcheck disable=SC2016  # root's shell expands it
    said=$($limit "$1" -n -u root -- /bin/sh -c 'echo "$0-$(id -u)"' "$vpmem_mark" 2>&1) ||
        [ $? != 124 ] || said="$said it did not end within 4 s"
    case $said in *"$vpmem_mark-0"*) working="$working $1"; echo works ;; *) echo refused; printf '%s\n' "$said" ;; esac
}
sudo_logs() { case $working in *sudo*) $limit sudo -n -l | grep -e ' log_output' -e ' log_std[oe]' -e ' LOG_OUTPUT:' ;; esac; }
sudo_kind() { $limit sudo -V | head -n 1; }
fact user id -un
fact uid id -u
fact home printf '%s' "$HOME"
[ -d "$HOME" ] || fact homeless echo yes
fact directory pwd
fact passwd passwd
fact rc rc_files
fact sudo elevated sudo
fact sudo_kind sudo_kind
fact sudo_logs sudo_logs
fact doas elevated doas
fact end echo end
printf '%s' "$vpmem_mark"
