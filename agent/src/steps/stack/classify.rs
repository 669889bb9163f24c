//! What compose's own words mean, as a stable code.

use hostler_protocol::job::Code;

/// Longest sentence taken out of compose's output, in characters.
const SENTENCE_CHARS_MAX: usize = 400;

/// Words, in lower case, and what a failure is whose output has one of them; the first that fits.
const WORDS: &[(Code, &[&str])] = &[
    (
        Code::DockerUnavailable,
        &[
            "cannot connect to the docker daemon",
            "is the docker daemon running",
            "error while fetching server api version",
            "couldn't connect to docker daemon",
            "docker.sock: connect:",
        ],
    ),
    (
        Code::PortTaken,
        &["port is already allocated", "address already in use", "ports are not available"],
    ),
    (Code::ContainerNameTaken, &["is already in use by container"]),
    (
        Code::StackUnhealthy,
        &["is unhealthy", "dependency failed to start", "didn't complete successfully"],
    ),
    (
        Code::ImageUnavailable,
        &[
            "pull access denied",
            "manifest unknown",
            "manifest for ",
            "no such image",
            "repository does not exist",
            "failed to resolve reference",
            "toomanyrequests",
            "no basic auth credentials",
            "/v2/\": ",
            "failed to pull",
        ],
    ),
    (
        Code::ComposeInvalid,
        &[
            "is invalid because",
            "yaml: ",
            "yaml.parser",
            "yaml.scanner",
            "validating ",
            "undefined service",
            "undefined network",
            "undefined volume",
            "undefined config",
            "undefined secret",
            "couldn't find env file",
            "invalid interpolation",
            "required variable",
            "unsupported config option",
            "additional property",
            "invalid compose project",
            "dependency cycle detected",
        ],
    ),
];
/// Statuses compose ends with, from its second generation on: files it does not find, files it
/// does not understand, images it cannot pull.
const STATUSES: &[(i32, Code)] =
    &[(14, Code::ComposeInvalid), (15, Code::ComposeInvalid), (18, Code::ImageUnavailable)];

/// What a failure is, by status and standard error.
#[must_use]
pub(super) fn code(status: Option<i32>, output: &str) -> Code {
    let output = output.to_lowercase();
    let by_word = WORDS.iter().find(|(_, words)| words.iter().any(|word| output.contains(word)));
    if let Some((code, _)) = by_word {
        return *code;
    }
    let by_status = STATUSES.iter().find(|(known, _)| Some(*known) == status);
    by_status.map_or(Code::ComposeFailed, |(_, code)| *code)
}

/// The sentence of an output that says most: the last that speaks of an error, else the last.
#[must_use]
pub(super) fn sentence(output: &str) -> String {
    const NOISE: &[&str] = &["Encountered errors while bringing up the project."];
    let lines = || output.lines().map(str::trim).filter(|l| !l.is_empty() && !NOISE.contains(l));
    let speaks = |line: &&str| {
        let line = line.to_lowercase();
        ["error", "invalid", "cannot", "failed", "yaml", "not found"]
            .iter()
            .any(|word| line.contains(word))
    };
    let found = lines().rev().find(speaks).or_else(|| lines().next_back()).unwrap_or("no word");
    found.chars().take(SENTENCE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_generations_say_is_understood() {
        let cases = [
            (
                1,
                "Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?",
                Code::DockerUnavailable,
            ),
            (
                1,
                "docker.errors.DockerException: Error while fetching server API version: (…)",
                Code::DockerUnavailable,
            ),
            (
                1,
                "driver failed …: Bind for 0.0.0.0:80 failed: port is already allocated",
                Code::PortTaken,
            ),
            (1, "listen tcp4 0.0.0.0:80: bind: address already in use", Code::PortTaken),
            (
                18,
                "Error response from daemon: Get \"https://r.example/v2/\": dial tcp: no such host",
                Code::ImageUnavailable,
            ),
            (
                1,
                "Get \"http://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused",
                Code::ImageUnavailable,
            ),
            (
                1,
                "Error response from daemon: Conflict. The container name \"/one\" is already in \
                 use by container \"0a1b\". You have to remove (or rename) that container to be \
                 able to reuse that name.",
                Code::ContainerNameTaken,
            ),
            (1, "dependency failed to start: container p-db-1 is unhealthy", Code::StackUnhealthy),
            (1, "ERROR: for job  Container \"0a1b\" is unhealthy.", Code::StackUnhealthy),
            (15, "yaml: line 1: did not find expected ',' or ']'", Code::ComposeInvalid),
            (15, "services.a Additional property imag is not allowed", Code::ComposeInvalid),
            (14, "env file /d/none.env not found", Code::ComposeInvalid),
            (1, "The Compose file './x.yml' is invalid because:", Code::ComposeInvalid),
            (1, "something nobody has seen before", Code::ComposeFailed),
        ];
        for (status, output, expected) in cases {
            assert_eq!(code(Some(status), output), expected, "{output}");
        }
    }

    #[test]
    fn the_sentence_is_the_one_that_tells() {
        let output = " Container a  Starting\nError response from daemon: port\n\n";
        assert_eq!(sentence(output), "Error response from daemon: port");
        assert_eq!(sentence("a\nb\n"), "b");
        assert_eq!(sentence(""), "no word");
        let first =
            "ERROR: for a  Cannot start\nEncountered errors while bringing up the project.\n";
        assert_eq!(sentence(first), "ERROR: for a  Cannot start");
    }
}
