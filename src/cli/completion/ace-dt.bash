# bash completion for ace-dt. The program itself knows what may follow.
_ace_dt() {
    local line rest='' replies=() whole cut
    # bash takes words apart at : and =, and wants only the last part.
    whole=${COMP_LINE:0:COMP_POINT}
    whole=${whole##*[[:space:]]}
    cut=${whole%"${COMP_WORDS[COMP_CWORD]}"}
    case ${COMP_WORDS[COMP_CWORD]} in : | =) cut=$whole ;; esac
    while IFS= read -r line; do
        case $line in
            :*) rest=$line ;;
            *) line=${line%%$'\t'*}; replies+=("${line#"$cut"}") ;;
        esac
    done < <("${COMP_WORDS[0]}" __complete bash "$COMP_LINE" "$COMP_POINT" 2>/dev/null)
    COMPREPLY=("${replies[@]}")
    # readline itself completes files: it knows how they are quoted.
    case $rest in
        :files) compopt -o default ;;
        :directories) compopt -o dirnames ;;
        :more) compopt -o nospace ;;
    esac
}
complete -F _ace_dt ace-dt
