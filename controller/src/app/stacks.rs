//! Stacks: listed and shown.

use std::collections::BTreeMap;

use hostler_protocol::id::{HostId, StackId};

use super::stack_view::{self, Around};
use super::{App, AppError};
use crate::domain::Host;
use crate::domain::decide::enqueue::missing;
use crate::domain::decide::stack::{self as decide, Overview, Place, trouble, waiting};
use crate::domain::desired::{RefreshState, Stack, StackHost};
use crate::store::Page;
use crate::views;

/// Most stacks looked at together.
const READ_AT_ONCE: u32 = 500;

/// Which stacks; filters named together all have to hold.
#[derive(Debug, Clone, Default)]
pub struct StackFilter {
    pub path: Option<String>,
    pub status: Option<views::StackStatus>,
    /// On it, or meant to be.
    pub host: Option<HostId>,
    pub out_of_sync: Option<bool>,
    pub drifted: Option<bool>,
}

impl StackFilter {
    /// Whether it takes every stack.
    fn is_open(&self) -> bool {
        let Self { path, status, host, out_of_sync, drifted } = self;
        path.is_none()
            && status.is_none()
            && host.is_none()
            && out_of_sync.is_none()
            && drifted.is_none()
    }

    /// What can be said before the row is made.
    fn is_of(&self, stack: &Stack, around: &Around<'_>) -> bool {
        let rows = around.rows.get(&stack.id).map(Vec::as_slice).unwrap_or_default();
        self.host.as_ref().is_none_or(|host| rows.iter().any(|row| row.host == *host))
    }

    fn takes(&self, row: &views::StackRow) -> bool {
        self.status.is_none_or(|status| status == row.status)
            && self.out_of_sync.is_none_or(|out| out == row.out_of_sync)
            && self.drifted.is_none_or(|drifted| drifted == row.drifted)
    }
}

impl App {
    /// One page of stacks by path, each with its status over all its hosts. The page begins behind a
    /// path: what comes and goes meanwhile shifts nothing.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub async fn list_stacks(
        &self,
        filter: &StackFilter,
        page: &Page,
    ) -> Result<views::StackPage, AppError> {
        let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
        let at_once = match filter.is_open() {
            true => page.limit.saturating_add(1).min(READ_AT_ONCE),
            false => READ_AT_ONCE,
        };
        let (mut places, mut items) = (self.store.places().await?, Vec::new());
        let mut behind = page.after.clone();
        loop {
            let stacks = match &filter.path {
                Some(path) => self.store.stack_at(path).await?.into_iter().collect(),
                None => self.store.stacks_behind(behind.as_deref(), at_once).await?,
            };
            let overview = self.overview_now(&stacks, places).await?;
            let around = self.around(&overview);
            let past = |stack: &&Stack| behind.as_ref().is_none_or(|at| stack.path > *at);
            let rows = stacks
                .iter()
                .filter(past)
                .filter(|stack| filter.is_of(stack, &around))
                .map(|stack| stack_view::row(stack, &around))
                .filter(|row| filter.takes(row));
            items.extend(rows);
            let is_last = filter.path.is_some()
                || u32::try_from(stacks.len()).is_ok_and(|read| read < at_once);
            if is_last || items.len() > limit {
                break;
            }
            behind = stacks.last().map(|stack| stack.path.clone());
            places = overview.places;
        }
        let more = items.len() > limit;
        items.truncate(limit);
        let (desired, last) = (self.store.desired_state().await?, self.store.last_refresh().await?);
        Ok(views::StackPage {
            next: items.last().filter(|_| more).map(|row| row.path.clone()),
            items,
            revision: desired.map(|desired| desired.revision),
            stale: last.is_some_and(|one| one.state == RefreshState::Failed),
        })
    }

    /// One stack with all that is known of it.
    ///
    /// # Errors
    /// `NOT_FOUND`, [`AppError::Store`].
    pub async fn show_stack(&self, id: &StackId) -> Result<views::Stack, AppError> {
        let stack = self.store.stack(id).await?.ok_or_else(|| missing("stack", id))?;
        let places = self.store.places().await?;
        let overview = self.overview_now(std::slice::from_ref(&stack), places).await?;
        let mut hosts: BTreeMap<HostId, Host> = BTreeMap::new();
        for row in overview.rows.iter().filter(|row| row.stack == *id) {
            if let Some(host) = self.store.host(&row.host).await? {
                hosts.insert(row.host.clone(), host);
            }
        }
        Ok(stack_view::stack(&stack, &self.around(&overview), &hosts))
    }

    /// What says how these stacks stand, with what is wanted just now: who reads it is never told that
    /// a host has what a refresh has only just found.
    async fn overview_now(
        &self,
        stacks: &[Stack],
        places: Vec<Place>,
    ) -> Result<Overview, AppError> {
        let near = self.store.overview_of(stacks, places).await?;
        let rows = decide::rows_now(&near);
        let is_behind = |row: &StackHost| {
            row.is_out_of_sync()
                && stacks.iter().any(|stack| stack.present && stack.id == row.stack)
        };
        if !rows.iter().any(is_behind) {
            return Ok(Overview { rows, ..near });
        }
        // What one waits for may be any other: it may still run as the project this one is to be.
        let whole = self.store.stack_overview().await?;
        let rows = decide::rows_now(&whole);
        Ok(Overview { rows, ..whole })
    }

    fn around<'o>(&self, overview: &'o Overview) -> Around<'o> {
        let mut rows: BTreeMap<&StackId, Vec<_>> = BTreeMap::new();
        for row in &overview.rows {
            rows.entry(&row.stack).or_default().push(row);
        }
        let mut trouble = trouble(overview);
        for stack in &overview.stacks {
            let digest = stack.facts.bundle_digest.as_deref();
            if let Some(why) = digest.and_then(|digest| self.desired.refusal(digest)) {
                trouble.entry(stack.id.clone()).or_insert(why);
            }
        }
        let revision = overview.desired.as_ref().map(|desired| desired.revision.as_str());
        let waiting = waiting(overview, &trouble);
        let (jobs, away) = (Some(&overview.jobs), Some(&overview.away));
        Around { rows, trouble, waiting, jobs, away, revision }
    }
}
