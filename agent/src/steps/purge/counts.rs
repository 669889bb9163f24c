//! What became of entries: in all, and per URL that was named.

/// Entries by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    pub found: u64,
    pub removed: u64,
    pub softened: u64,
    pub refreshed: u64,
    pub failed: u64,
    pub bytes: u64,
}

impl Count {
    /// One entry of that size that was only looked at.
    #[must_use]
    pub fn found(bytes: u64) -> Self {
        Self { found: 1, bytes, ..Self::default() }
    }

    /// One entry that was removed.
    #[must_use]
    pub fn removed(bytes: u64) -> Self {
        Self { removed: 1, ..Self::found(bytes) }
    }

    /// One entry that was made stale.
    #[must_use]
    pub fn softened(bytes: u64) -> Self {
        Self { softened: 1, ..Self::found(bytes) }
    }

    /// One entry that was made anew.
    #[must_use]
    pub fn refreshed(bytes: u64) -> Self {
        Self { refreshed: 1, ..Self::found(bytes) }
    }

    /// One entry that stays as it was.
    #[must_use]
    pub fn failed(bytes: u64) -> Self {
        Self { failed: 1, ..Self::found(bytes) }
    }

    fn add(&mut self, other: Self) {
        self.found += other.found;
        self.removed += other.removed;
        self.softened += other.softened;
        self.refreshed += other.refreshed;
        self.failed += other.failed;
        self.bytes += other.bytes;
    }
}

/// Counts in all and per URL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    pub total: Count,
    /// In the order the URLs were named.
    pub urls: Vec<Count>,
}

impl Counts {
    /// Nothing yet, for so many URLs.
    #[must_use]
    pub fn new(urls: usize) -> Self {
        Self { total: Count::default(), urls: vec![Count::default(); urls] }
    }

    /// Counts entries, for a URL if they are one's.
    pub fn add(&mut self, url: Option<usize>, count: Count) {
        self.total.add(count);
        if let Some(own) = url.and_then(|place| self.urls.get_mut(place)) {
            own.add(count);
        }
    }

    /// Adds counts of the same URLs.
    pub fn merge(&mut self, other: &Self) {
        self.total.add(other.total);
        for (own, other) in self.urls.iter_mut().zip(&other.urls) {
            own.add(*other);
        }
    }
}
