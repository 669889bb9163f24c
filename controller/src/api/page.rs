//! Keyset paging: `after` is what the last page gave as `next`.

use std::str::FromStr;

use serde::Deserialize;
use utoipa::IntoParams;

use super::problem::ApiError;
use crate::store::Page;

/// Rows of a page when the client names no limit.
pub(crate) const LIMIT_DEFAULT: u32 = 50;
/// Most rows of a page.
pub(crate) const LIMIT_MAX: u32 = 200;

/// Which page.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// `next` of the page before.
    #[param(nullable = false, pattern = "^[a-z]+_[0-7][0-9a-hjkmnp-tv-z]{25}$")]
    after: Option<String>,
    /// Most rows of the page.
    #[param(nullable = false, minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
}

impl PageQuery {
    /// The page of a list whose ids are of this kind.
    ///
    /// # Errors
    /// 400 for a limit out of range or an `after` that is no such id.
    pub(crate) fn of<T: FromStr>(self) -> Result<Page, ApiError> {
        page::<T>(self.after, self.limit)
    }
}

/// As [`PageQuery::of`], for queries with filters beside.
///
/// # Errors
/// As [`PageQuery::of`].
pub(crate) fn page<T: FromStr>(
    after: Option<String>,
    limit: Option<u32>,
) -> Result<Page, ApiError> {
    let limit = limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        let detail = format!("from 1 to {LIMIT_MAX}");
        return Err(ApiError::field("INVALID_QUERY", "?limit", detail));
    }
    if after.as_ref().is_some_and(|after| after.parse::<T>().is_err()) {
        let detail = "send back the `next` of the page before";
        return Err(ApiError::field("INVALID_QUERY", "?after", detail));
    }
    Ok(Page { after, limit })
}

/// A filter that is an id.
///
/// # Errors
/// 400 naming the parameter.
pub(crate) fn id<T: FromStr>(name: &str, text: Option<String>) -> Result<Option<T>, ApiError> {
    let parsed = text.map(|text| text.parse().map_err(|_| ()));
    parsed.transpose().map_err(|()| {
        ApiError::field("INVALID_QUERY", format!("?{name}"), "not an id of this kind")
    })
}
