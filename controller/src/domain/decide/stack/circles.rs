//! Orders without a beginning: stacks that come, in the end, after themselves.

use std::collections::BTreeMap;

use crate::domain::desired::Stack;

/// The present stacks that are in a circle, in the order of their paths. Each stack and each `after`
/// is looked at a fixed number of times.
pub(super) fn circles(stacks: &[Stack]) -> Vec<&Stack> {
    let mut present: Vec<&Stack> = stacks.iter().filter(|stack| stack.present).collect();
    present.sort_by(|one, other| one.path.cmp(&other.path));
    let places: BTreeMap<&str, usize> =
        present.iter().enumerate().map(|(at, stack)| (stack.path.as_str(), at)).collect();
    let before: Vec<Vec<usize>> = present
        .iter()
        .map(|stack| {
            let after = stack.facts.settings.after.iter();
            after.filter_map(|path| places.get(path.as_str()).copied()).collect()
        })
        .collect();
    let circling = in_circles(&before);
    present.into_iter().zip(circling).filter(|(_, circles)| *circles).map(|(one, _)| one).collect()
}

/// Which nodes lie on a circle of edges: those that are not alone among the nodes that lead to each
/// other, and those that lead to themselves.
///
/// Found in two passes, both without recursion, since a chain may be as long as there are stacks:
/// nodes in the order in which nothing more is to be seen from them; then, in the opposite order, all
/// that leads to each and was not yet met.
fn in_circles(edges: &[Vec<usize>]) -> Vec<bool> {
    let mut back: Vec<Vec<usize>> = vec![Vec::new(); edges.len()];
    for (from, to) in edges.iter().enumerate() {
        for to in to {
            back[*to].push(from);
        }
    }
    let mut circling: Vec<bool> =
        edges.iter().enumerate().map(|(node, to)| to.contains(&node)).collect();
    let mut met = vec![false; edges.len()];
    for node in left_last(edges).into_iter().rev() {
        if met[node] {
            continue;
        }
        met[node] = true;
        let (mut group, mut at) = (vec![node], 0);
        while let Some(node) = group.get(at).copied() {
            at += 1;
            for from in &back[node] {
                if !std::mem::replace(&mut met[*from], true) {
                    group.push(*from);
                }
            }
        }
        if group.len() > 1 {
            for node in group {
                circling[node] = true;
            }
        }
    }
    circling
}

/// All nodes, each behind those that are first seen from it.
fn left_last(edges: &[Vec<usize>]) -> Vec<usize> {
    let mut left = Vec::with_capacity(edges.len());
    let mut met = vec![false; edges.len()];
    for start in 0..edges.len() {
        if std::mem::replace(&mut met[start], true) {
            continue;
        }
        // A node and how many of its edges were taken.
        let mut way = vec![(start, 0_usize)];
        while let Some((node, taken)) = way.last_mut() {
            let Some(next) = edges[*node].get(*taken).copied() else {
                left.push(*node);
                way.pop();
                continue;
            };
            *taken += 1;
            if !std::mem::replace(&mut met[next], true) {
                way.push((next, 0));
            }
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// By the definition: from each node along all edges, whether they lead back.
    fn by_definition(edges: &[Vec<usize>]) -> Vec<bool> {
        let leads_back = |node: usize| {
            let (mut seen, mut ahead) = (BTreeSet::new(), edges[node].clone());
            while let Some(next) = ahead.pop() {
                if seen.insert(next) {
                    ahead.extend(&edges[next]);
                }
            }
            seen.contains(&node)
        };
        (0..edges.len()).map(leads_back).collect()
    }

    proptest! {
        #[test]
        fn circles_are_what_leads_back(
            edges in proptest::collection::vec((0..12_usize, 0..12_usize), 0..30),
        ) {
            let mut graph = vec![Vec::new(); 12];
            for (from, to) in edges {
                graph[from].push(to);
            }
            prop_assert_eq!(in_circles(&graph), by_definition(&graph));
        }
    }

    #[test]
    fn long_chains_and_long_circles_take_no_longer_than_they_are_long() {
        // By the definition a million steps for each of these would be 10^12 in all.
        let count = 1_000_000;
        let mut chain: Vec<Vec<usize>> = (1..count).map(|next| vec![next]).collect();
        chain.push(Vec::new());
        assert!(in_circles(&chain).iter().all(|circles| !circles));
        chain[count - 1].push(1);
        let circling = in_circles(&chain);
        assert!(!circling[0], "it leads to a circle, and is not on it");
        assert!(circling[1..].iter().all(|circles| *circles));
    }
}
