//! What can be wrong with one stack.

/// One thing that keeps a stack from being synced, until a commit puts it right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Stable; see [`code`].
    pub code: &'static str,
    /// What is wrong and where, for a person.
    pub message: String,
}

impl Problem {
    /// A problem.
    #[must_use]
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// The codes of problems.
pub mod code {
    macro_rules! codes {
        ($($name:ident, $says:literal;)*) => {
            $(#[doc = $says] pub const $name: &str = stringify!($name);)*
            /// Every code and what it says.
            pub const ALL: &[(&str, &str)] = &[$(($name, $says),)*];
        };
    }

    codes! {
        COMPOSE_INVALID, "a compose file is no YAML, or not of a compose file's shape";
        COMPOSE_TOO_LARGE, "a compose file has more bytes than are read";
        COMPOSE_IS_SYMLINK, "the compose file is a symbolic link to no file of the repository";
        COMPOSE_TOO_MANY, "more compose files become part of the stack than are read";
        HOSTLER_SECTION_INVALID, "the section `x-hostler` says what it cannot say";
        PROJECT_NAME_INVALID, "no project name follows from the compose file or its directory";
        NAME_INVALID, "a file's name is not UTF-8, too long, or one that no working tree may hold";
        PATH_TOO_LONG, "the stack's path is longer than a stack's may be";
        REFERENCE_MISSING, "a file the stack needs is not in the repository";
        REFERENCE_LEAVES, "a path leads out of the repository";
        SYMLINK_LEAVES, "a symbolic link leads out of the repository, or in a circle";
        SUBMODULE, "a submodule is part of the stack; its files are not in the repository";
        LFS_POINTER, "a file is a pointer to Git LFS, not the file itself";
        TOO_MANY_FILES, "the stack has more files than a bundle holds";
    }
}

/// The codes of warnings: what a person should know of a stack that is synced all the same.
pub mod warning {
    /// Both names of a compose file are there; the one in `.yml` counts.
    pub const BOTH_COMPOSE_FILES: &str = "BOTH_COMPOSE_FILES";
    /// A path holds a variable: what it leads to is not part of the bundle, unless it lies in the
    /// stack's directory.
    pub const VARIABLE_PATH: &str = "VARIABLE_PATH";
    /// `.env` sets a variable of compose's own that is not followed.
    pub const VARIABLE_UNUSED: &str = "VARIABLE_UNUSED";
    /// The override file is a symbolic link to no file of the repository.
    pub const OVERRIDE_LEADS_NOWHERE: &str = "OVERRIDE_LEADS_NOWHERE";
    /// The override file has a section `x-hostler`, which is read in the compose file alone.
    pub const SECTION_UNUSED: &str = "SECTION_UNUSED";
}
