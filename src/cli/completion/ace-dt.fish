# fish completion for ace-dt. The program itself knows what may follow.
function __ace_dt_complete
    set -l before (commandline -opc)
    set -l current (commandline -ct)
    set -l lines ($before[1] __complete fish $before[2..] $current 2>/dev/null)
    test (count $lines) -gt 0; or return
    switch $lines[-1]
        case :files
            test (count $lines) -gt 1; and printf '%s\n' $lines[1..-2]
            __fish_complete_path (string replace -r '^--[^=]*=' '' -- $current)
        case :directories
            __fish_complete_directories (string replace -r '^--[^=]*=' '' -- $current)
        case '*'
            printf '%s\n' $lines[1..-2]
    end
end
complete -c ace-dt -f -a '(__ace_dt_complete)'
