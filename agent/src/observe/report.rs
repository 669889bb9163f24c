//! Reports as they are sent: in pieces that fit a frame.

use hostler_protocol::job::{self, ContainerDoc};
use hostler_protocol::observed::{Drift, NAMED_DRIFT_MAX, Observed, ObservedStack};
use hostler_protocol::{OBSERVED_BYTES_MAX, id::StackId};
use sha2::{Digest as _, Sha256};

/// Most bytes of a document, as far as it can be split; a whole stack always fits.
const DOCUMENT_BYTES: usize = OBSERVED_BYTES_MAX / 2;
/// Most bytes a stack's containers, and its drift, may take.
const CONTAINERS_BYTES: usize = OBSERVED_BYTES_MAX / 8;
const DRIFT_BYTES: usize = OBSERVED_BYTES_MAX / 8;
const _: () = assert!(DOCUMENT_BYTES + CONTAINERS_BYTES + DRIFT_BYTES < OBSERVED_BYTES_MAX);

/// What is seen of a stack, within what a report has room for.
pub(super) fn stack(
    stack: StackId,
    desired: String,
    seen_at_us: i64,
    containers: Vec<ContainerDoc>,
    drift: Vec<Drift>,
) -> ObservedStack {
    let all = drift.len();
    let drift = fitting(drift, DRIFT_BYTES, NAMED_DRIFT_MAX);
    let drift_more = (all - drift.len()) as u64;
    let containers = fitting(containers, CONTAINERS_BYTES, usize::MAX);
    ObservedStack { stack, desired, seen_at_us, containers, drift, drift_more }
}

/// The first of them.
fn fitting<T: serde::Serialize>(mut all: Vec<T>, bytes_max: usize, count_max: usize) -> Vec<T> {
    let mut bytes = 0;
    let fits = |one: &T| {
        bytes += size(one);
        bytes <= bytes_max
    };
    let count = all.iter().take(count_max).map(fits).take_while(|fits| *fits).count();
    all.truncate(count);
    all
}

fn size(one: &impl serde::Serialize) -> usize {
    // With the comma behind it.
    job::write(one).len() + 1
}

/// Stands for all that is told of a stack but the time.
pub(super) fn digest(stack: &ObservedStack) -> [u8; 32] {
    Sha256::digest(job::write(&ObservedStack { seen_at_us: 0, ..stack.clone() })).into()
}

/// The documents that tell of these stacks; none for none.
pub(super) fn documents(stacks: Vec<ObservedStack>) -> Vec<Vec<u8>> {
    let mut documents = Vec::new();
    let (mut report, mut bytes) = (Observed::default(), 0);
    for stack in stacks {
        let more = size(&stack);
        if bytes + more > DOCUMENT_BYTES && !report.stacks.is_empty() {
            documents.push(job::write(&std::mem::take(&mut report)));
            bytes = 0;
        }
        bytes += more;
        report.stacks.push(stack);
    }
    if !report.stacks.is_empty() {
        documents.push(job::write(&report));
    }
    documents
}

/// The document that says why Docker cannot be asked.
pub(super) fn unavailable(why: String) -> Vec<u8> {
    job::write(&Observed { unavailable: Some(why), stacks: Vec::new() })
}

#[cfg(test)]
mod tests {
    use hostler_protocol::observed::DriftKind;

    use super::*;

    fn seen(n: u8, drift: Vec<Drift>, containers: usize) -> ObservedStack {
        let container = ContainerDoc {
            name: "shop-web-1".to_owned(),
            id: "0123456789ab".to_owned(),
            service: "web".to_owned(),
            image: "web:1".to_owned(),
            image_id: "sha256:00".to_owned(),
            state: "running".to_owned(),
            health: None,
            exit_code: None,
            restarts: 0,
        };
        let containers = vec![container; containers];
        stack(StackId::from_parts(1, [n; 10]), "d".to_owned(), 5, containers, drift)
    }

    fn changed(subject: String) -> Drift {
        Drift { kind: DriftKind::FileChanged, subject }
    }

    fn read(document: &[u8]) -> Observed {
        job::read::<Observed>("observed", document, OBSERVED_BYTES_MAX).unwrap()
    }

    #[test]
    fn a_report_is_split_and_nothing_of_it_is_lost() {
        assert_eq!(documents(Vec::new()), Vec::<Vec<u8>>::new());
        let stacks: Vec<_> = (0..=255).map(|n| seen(n, Vec::new(), 10)).collect();
        let documents = documents(stacks.clone());
        assert!(documents.len() > 1, "{}", documents.len());
        let told: Vec<_> = documents.iter().flat_map(|document| read(document).stacks).collect();
        assert_eq!(told, stacks);
    }

    #[test]
    fn the_largest_stack_fits_and_says_what_it_leaves_out() {
        let long = (0..150).map(|n| changed(format!("{n}/{}", "x".repeat(4000)))).collect();
        let stack = seen(1, long, 10_000);
        let named = stack.drift.len();
        assert!(named > 10 && named < NAMED_DRIFT_MAX, "{named}");
        assert_eq!(stack.drift_more, 150 - named as u64);
        let documents = documents(vec![stack; 5]);
        let told: Vec<_> = documents.iter().map(|one| read(one).stacks.len()).collect();
        assert!(told.iter().sum::<usize>() == 5 && told.len() > 1, "{told:?}");
        let many = seen(1, (0..300).map(|n| changed(n.to_string())).collect(), 0);
        assert_eq!((many.drift.len(), many.drift_more), (NAMED_DRIFT_MAX, 200));
    }

    #[test]
    fn the_time_alone_is_nothing_new() {
        let (one, other) = (seen(1, Vec::new(), 1), seen(1, vec![changed("a".to_owned())], 1));
        assert_eq!(digest(&one), digest(&ObservedStack { seen_at_us: 9, ..one.clone() }));
        assert_ne!(digest(&one), digest(&other));
    }

    #[test]
    fn docker_that_is_away_is_told() {
        let report = read(&unavailable("no such socket".to_owned()));
        assert_eq!(report.unavailable.as_deref(), Some("no such socket"));
    }
}
