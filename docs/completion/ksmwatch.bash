# bash completion of ksmwatch; made by `make docs`.
_ksmwatch() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    local command=${COMP_WORDS[1]}
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        mapfile -t COMPREPLY < <(compgen -W "run check build snapshot meminfo forecast top audit why peers estimate history record --help --version" -- "$cur")
        return
    fi
    case $command:$prev in
        run:--web.listen-address) mapfile -t COMPREPLY < <(true); return ;;
        run:--web.telemetry-path) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        run:--web.config.file) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        run:--web.systemd-socket) mapfile -t COMPREPLY < <(compgen -W "true false" -- "$cur"); return ;;
        run:--web.user) mapfile -t COMPREPLY < <(true); return ;;
        run:--web.max-requests) mapfile -t COMPREPLY < <(true); return ;;
        run:--web.max-connections) mapfile -t COMPREPLY < <(true); return ;;
        run:--textfile.directory) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        run:--textfile.interval) mapfile -t COMPREPLY < <(true); return ;;
        run:--socket) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        run:--socket-group) mapfile -t COMPREPLY < <(true); return ;;
        run:--backend) mapfile -t COMPREPLY < <(compgen -W "auto bpf poll" -- "$cur"); return ;;
        run:--probes) mapfile -t COMPREPLY < <(compgen -W "auto fentry kprobe" -- "$cur"); return ;;
        run:--accounts.max) mapfile -t COMPREPLY < <(true); return ;;
        run:--audit.cpu-percent) mapfile -t COMPREPLY < <(true); return ;;
        run:--audit.heal) mapfile -t COMPREPLY < <(compgen -W "true false" -- "$cur"); return ;;
        run:--ages.one-in) mapfile -t COMPREPLY < <(true); return ;;
        run:--owners.top) mapfile -t COMPREPLY < <(true); return ;;
        run:--metrics.processes) mapfile -t COMPREPLY < <(compgen -W "true false" -- "$cur"); return ;;
        run:--peers.tenant) mapfile -t COMPREPLY < <(true); return ;;
        run:--poll.interval) mapfile -t COMPREPLY < <(true); return ;;
        run:--poll.cpu-percent) mapfile -t COMPREPLY < <(true); return ;;
        run:--state.pin-path) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        run:--state.programs-path) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        run:--history.directory) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        run:--history.interval) mapfile -t COMPREPLY < <(true); return ;;
        run:--history.hours) mapfile -t COMPREPLY < <(true); return ;;
        run:--history.days) mapfile -t COMPREPLY < <(true); return ;;
        run:--history.max-mb) mapfile -t COMPREPLY < <(true); return ;;
        run:--log.level) mapfile -t COMPREPLY < <(compgen -W "debug info warning error" -- "$cur"); return ;;
        run:--log.format) mapfile -t COMPREPLY < <(compgen -W "logfmt json" -- "$cur"); return ;;
        run:--config.file) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        check:--socket) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        check:--backend) mapfile -t COMPREPLY < <(compgen -W "auto bpf poll" -- "$cur"); return ;;
        check:--probes) mapfile -t COMPREPLY < <(compgen -W "auto fentry kprobe" -- "$cur"); return ;;
        check:--accounts.max) mapfile -t COMPREPLY < <(true); return ;;
        check:--state.programs-path) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        check:--config.file) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        build:--output) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        build:--probes) mapfile -t COMPREPLY < <(compgen -W "auto fentry kprobe" -- "$cur"); return ;;
        build:--accounts.max) mapfile -t COMPREPLY < <(true); return ;;
        build:--state.programs-path) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        build:--config.file) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        snapshot:--socket) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        snapshot:--backend) mapfile -t COMPREPLY < <(compgen -W "auto bpf poll" -- "$cur"); return ;;
        snapshot:--probes) mapfile -t COMPREPLY < <(compgen -W "auto fentry kprobe" -- "$cur"); return ;;
        snapshot:--accounts.max) mapfile -t COMPREPLY < <(true); return ;;
        snapshot:--state.programs-path) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        snapshot:--config.file) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        meminfo:--socket) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        meminfo:--backend) mapfile -t COMPREPLY < <(compgen -W "auto bpf poll" -- "$cur"); return ;;
        meminfo:--probes) mapfile -t COMPREPLY < <(compgen -W "auto fentry kprobe" -- "$cur"); return ;;
        meminfo:--accounts.max) mapfile -t COMPREPLY < <(true); return ;;
        meminfo:--state.programs-path) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        meminfo:--config.file) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        forecast:--socket) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        forecast:--backend) mapfile -t COMPREPLY < <(compgen -W "auto bpf poll" -- "$cur"); return ;;
        forecast:--probes) mapfile -t COMPREPLY < <(compgen -W "auto fentry kprobe" -- "$cur"); return ;;
        forecast:--accounts.max) mapfile -t COMPREPLY < <(true); return ;;
        forecast:--state.programs-path) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        forecast:--config.file) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        top:--url) mapfile -t COMPREPLY < <(true); return ;;
        top:--at) mapfile -t COMPREPLY < <(true); return ;;
        top:-d|top:--delay) mapfile -t COMPREPLY < <(true); return ;;
        top:-g|top:--group) mapfile -t COMPREPLY < <(compgen -W "owner kind unit user process tree" -- "$cur"); return ;;
        top:-s|top:--sort) mapfile -t COMPREPLY < <(compgen -W "pid kind name owner procs mapped kernel lag saved wasted age stray remote state read came went merged forked copied unmapped" -- "$cur"); return ;;
        top:-f|top:--filter) mapfile -t COMPREPLY < <(true); return ;;
        top:-u|top:--unit) mapfile -t COMPREPLY < <(compgen -W "pages KiB MiB GiB" -- "$cur"); return ;;
        top:-n|top:--iterations) mapfile -t COMPREPLY < <(true); return ;;
        top:--socket) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        top:--backend) mapfile -t COMPREPLY < <(compgen -W "auto bpf poll" -- "$cur"); return ;;
        top:--history.directory) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        top:--config.file) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        audit:--socket) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        audit:--config.file) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        peers:--max-pages) mapfile -t COMPREPLY < <(true); return ;;
        peers:--max-seconds) mapfile -t COMPREPLY < <(true); return ;;
        peers:--socket) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        peers:--backend) mapfile -t COMPREPLY < <(compgen -W "auto bpf poll" -- "$cur"); return ;;
        peers:--peers.tenant) mapfile -t COMPREPLY < <(true); return ;;
        peers:--config.file) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        estimate:--precision) mapfile -t COMPREPLY < <(true); return ;;
        estimate:--budget) mapfile -t COMPREPLY < <(true); return ;;
        estimate:--interval) mapfile -t COMPREPLY < <(true); return ;;
        estimate:--seed) mapfile -t COMPREPLY < <(true); return ;;
        estimate:--peers.tenant) mapfile -t COMPREPLY < <(true); return ;;
        estimate:--config.file) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        history:--since) mapfile -t COMPREPLY < <(true); return ;;
        history:--until) mapfile -t COMPREPLY < <(true); return ;;
        history:--step) mapfile -t COMPREPLY < <(true); return ;;
        history:--history.directory) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        history:--config.file) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
    esac
    case $command:$cur in
        run:-*) mapfile -t COMPREPLY < <(compgen -W "-h --help --config.check --web.listen-address --web.telemetry-path --web.config.file --web.systemd-socket --web.user --web.max-requests --web.max-connections --textfile.directory --textfile.interval --socket --socket-group --backend --probes --accounts.max --audit.cpu-percent --audit.heal --ages.one-in --owners.top --metrics.processes --peers.tenant --poll.interval --poll.cpu-percent --state.pin-path --state.programs-path --history.directory --history.interval --history.hours --history.days --history.max-mb --log.level --log.format --config.file" -- "$cur"); return ;;
        check:-*) mapfile -t COMPREPLY < <(compgen -W "-h --help --plan-only --json --socket --backend --probes --accounts.max --state.programs-path --config.file" -- "$cur"); return ;;
        build:-*) mapfile -t COMPREPLY < <(compgen -W "-h --help --output --probes --accounts.max --state.programs-path --config.file" -- "$cur"); return ;;
        snapshot:-*) mapfile -t COMPREPLY < <(compgen -W "-h --help --json --socket --backend --probes --accounts.max --state.programs-path --config.file" -- "$cur"); return ;;
        meminfo:-*) mapfile -t COMPREPLY < <(compgen -W "-h --help --socket --backend --probes --accounts.max --state.programs-path --config.file" -- "$cur"); return ;;
        forecast:-*) mapfile -t COMPREPLY < <(compgen -W "-h --help --json --socket --backend --probes --accounts.max --state.programs-path --config.file" -- "$cur"); return ;;
        top:-*) mapfile -t COMPREPLY < <(compgen -W "-h --help --url --at -d --delay -g --group -s --sort -i --invert -f --filter -u --unit -r --rates -b --batch -n --iterations --once --json --csv --socket --backend --history.directory --config.file" -- "$cur"); return ;;
        audit:-*) mapfile -t COMPREPLY < <(compgen -W "-h --help --json --socket --config.file" -- "$cur"); return ;;
        audit:*) mapfile -t COMPREPLY < <(compgen -W "$(cd /proc && echo [1-9]*)" -- "$cur"); return ;;
        why:-*) mapfile -t COMPREPLY < <(compgen -W "-h --help --json" -- "$cur"); return ;;
        why:*) mapfile -t COMPREPLY < <(compgen -W "$(cd /proc && echo [1-9]*)" -- "$cur"); return ;;
        peers:-*) mapfile -t COMPREPLY < <(compgen -W "-h --help --max-pages --max-seconds --json --socket --backend --peers.tenant --config.file" -- "$cur"); return ;;
        peers:*) mapfile -t COMPREPLY < <(compgen -W "$(cd /proc && echo [1-9]*)" -- "$cur"); return ;;
        estimate:-*) mapfile -t COMPREPLY < <(compgen -W "-h --help --all --precision --budget --interval --seed --json --peers.tenant --config.file" -- "$cur"); return ;;
        estimate:*) mapfile -t COMPREPLY < <(compgen -W "$(cd /proc && echo [1-9]*)" -- "$cur"); return ;;
        history:-*) mapfile -t COMPREPLY < <(compgen -W "-h --help --since --until --step --csv --json --history.directory --config.file" -- "$cur"); return ;;
        record:-*) mapfile -t COMPREPLY < <(compgen -W "-h --help" -- "$cur"); return ;;
        record:*) mapfile -t COMPREPLY < <(compgen -d -- "$cur"); return ;;
    esac
}
complete -o filenames -F _ksmwatch ksmwatch
