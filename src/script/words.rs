//! Words that playbooks cannot use as names.

/// Words that Rhai keeps for itself, and our own: none can be a variable, a function or a parameter.
const RESERVED: &str = "as async await break call case catch const continue curry debug default do else eval exit \
    export false fn Fn for global go goto if import in is is_def_fn is_def_var is_shared let loop match module new nil \
    null package print private protected public return shared spawn static super switch sync this thread throw true \
    try type_of until use var void while with yield \
    always attempt ensure params step PLAYBOOK";

/// Whether a word cannot name a parameter, a variable or a function.
pub fn is_reserved(word: &str) -> bool {
    RESERVED.split_whitespace().any(|reserved| reserved == word)
}

/// Whether a word can name an environment variable.
pub fn is_variable_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
