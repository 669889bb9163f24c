//! Which controller is asked first: any at the start, so that a fleet spreads over all of them; then
//! the one that served last, or the next when that one is gone.

use crate::net::{self, DialError, Dialled};

/// The controllers of this host, and where among them it is.
#[derive(Debug)]
pub(super) struct Route {
    controllers: Vec<String>,
    first: usize,
}

impl Route {
    /// Begins anywhere.
    pub(super) fn new(controllers: Vec<String>, random: u64) -> Self {
        let count = u64::try_from(controllers.len().max(1)).unwrap_or(1);
        let first = usize::try_from(random % count).unwrap_or(0);
        Self { controllers, first }
    }

    pub(super) fn has_another(&self) -> bool {
        self.controllers.len() > 1
    }

    /// Every controller, the one to ask first at the head.
    pub(super) fn in_turn(&self) -> Vec<String> {
        let mut turn = self.controllers.clone();
        turn.rotate_left(self.first.min(self.controllers.len()));
        turn
    }

    pub(super) async fn dial(&self, config: &quinn::ClientConfig) -> Result<Dialled, DialError> {
        net::dial_from(self.first, &self.controllers, config).await
    }

    /// This one answered.
    pub(super) fn arrived(&mut self, place: usize) {
        self.first = place;
    }

    /// The next one is to be asked first.
    pub(super) fn move_on(&mut self) {
        self.first = (self.first + 1) % self.controllers.len().max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(random: u64) -> Route {
        Route::new(["a:1", "b:1", "c:1"].map(str::to_owned).to_vec(), random)
    }

    #[test]
    fn hosts_begin_anywhere_and_go_round() {
        assert_eq!(route(0).in_turn(), ["a:1", "b:1", "c:1"]);
        let mut route = route(4);
        assert_eq!(route.in_turn(), ["b:1", "c:1", "a:1"]);
        route.arrived(2);
        assert_eq!(route.in_turn(), ["c:1", "a:1", "b:1"], "who served is asked again");
        route.move_on();
        assert_eq!(route.in_turn(), ["a:1", "b:1", "c:1"]);
        assert!(route.has_another());
    }

    #[test]
    fn a_host_with_one_controller_stays_with_it_and_one_with_none_goes_nowhere() {
        let mut one = Route::new(vec!["a:1".to_owned()], 7);
        one.move_on();
        assert_eq!(one.in_turn(), ["a:1"]);
        assert!(!one.has_another());
        let mut none = Route::new(Vec::new(), 7);
        none.move_on();
        assert_eq!(none.in_turn(), Vec::<String>::new());
    }
}
