//! Who carries a job out.

use serde::{Deserialize, Serialize};

/// Who carries a job out on its host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Executor {
    /// The agent itself.
    #[default]
    Native,
    /// `ansible-playbook` on the host, with the playbook of the job's type.
    Ansible,
}

impl Executor {
    /// The executor's stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Ansible => "ansible",
        }
    }

    /// The executor of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Native, Self::Ansible].into_iter().find(|one| one.as_str() == name)
    }
}
