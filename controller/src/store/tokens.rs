//! Enrolment tokens, API tokens, and the memory of idempotent requests.

use hostler_protocol::id::{ApiTokenId, EnrolmentTokenId};

use super::cells::Cells;
use super::db::{Tx, Value, params};
use super::error::Failure;
use super::read::List;
use super::types::{Page, Paged};
use super::{Store, StoreError};
use crate::domain::{ApiScope, ApiToken, EnrolmentToken, IdempotencyRecord};

pub(super) const ENROLMENT: &str = "SELECT t.id, t.secret_sha256, t.host_name, t.created_at, \
    t.expires_at, t.used_at, t.used_by_key_sha256, t.host_id FROM enrolment_tokens t";

pub(super) fn read_enrolment(row: &mut Cells<'_>) -> Result<EnrolmentToken, Failure> {
    Ok(EnrolmentToken {
        id: row.parsed()?,
        secret_sha256: row.text()?,
        host_name: row.opt_text()?,
        created_at: row.at()?,
        expires_at: row.at()?,
        used_at: row.opt_at()?,
        used_by_key_sha256: row.opt_text()?,
        host_id: row.opt_parsed()?,
    })
}

fn enrolment_values(token: &EnrolmentToken) -> Vec<Value<'_>> {
    vec![
        token.id.as_str().into(),
        token.secret_sha256.as_str().into(),
        token.host_name.as_deref().into(),
        token.created_at.into(),
        token.expires_at.into(),
        token.used_at.into(),
        token.used_by_key_sha256.as_deref().into(),
        token.host_id.as_ref().map(|id| id.as_str()).into(),
    ]
}

pub(super) async fn insert_enrolment(
    tx: &mut Tx<'_>,
    token: &EnrolmentToken,
) -> Result<(), Failure> {
    let sql = "INSERT INTO enrolment_tokens (id, secret_sha256, host_name, created_at, \
        expires_at, used_at, used_by_key_sha256, host_id) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    tx.execute(sql, &enrolment_values(token)).await?;
    Ok(())
}

pub(super) async fn update_enrolment(
    tx: &mut Tx<'_>,
    token: &EnrolmentToken,
) -> Result<(), Failure> {
    let sql = "UPDATE enrolment_tokens SET secret_sha256 = $2, host_name = $3, created_at = $4, \
        expires_at = $5, used_at = $6, used_by_key_sha256 = $7, host_id = $8 WHERE id = $1";
    exactly_one(tx.execute(sql, &enrolment_values(token)).await?)
}

pub(super) async fn delete_enrolment(
    tx: &mut Tx<'_>,
    id: &EnrolmentTokenId,
) -> Result<(), Failure> {
    let sql = "DELETE FROM enrolment_tokens WHERE id = $1";
    exactly_one(tx.execute(sql, params![id.as_str()]).await?)
}

pub(super) const API: &str = "SELECT t.id, t.name, t.secret_sha256, t.scope, t.created_at, \
    t.expires_at, t.revoked_at FROM api_tokens t";

pub(super) fn read_api(row: &mut Cells<'_>) -> Result<ApiToken, Failure> {
    Ok(ApiToken {
        id: row.parsed()?,
        name: row.text()?,
        secret_sha256: row.text()?,
        scope: row.named("scope", ApiScope::parse)?,
        created_at: row.at()?,
        expires_at: row.opt_at()?,
        revoked_at: row.opt_at()?,
    })
}

fn api_values(token: &ApiToken) -> Vec<Value<'_>> {
    vec![
        token.id.as_str().into(),
        token.name.as_str().into(),
        token.secret_sha256.as_str().into(),
        token.scope.as_str().into(),
        token.created_at.into(),
        token.expires_at.into(),
        token.revoked_at.into(),
    ]
}

pub(super) async fn insert_api(tx: &mut Tx<'_>, token: &ApiToken) -> Result<(), Failure> {
    let sql = "INSERT INTO api_tokens (id, name, secret_sha256, scope, created_at, expires_at, \
        revoked_at) VALUES ($1, $2, $3, $4, $5, $6, $7)";
    tx.execute(sql, &api_values(token)).await?;
    Ok(())
}

pub(super) async fn update_api(tx: &mut Tx<'_>, token: &ApiToken) -> Result<(), Failure> {
    let sql = "UPDATE api_tokens SET name = $2, secret_sha256 = $3, scope = $4, created_at = $5, \
        expires_at = $6, revoked_at = $7 WHERE id = $1";
    exactly_one(tx.execute(sql, &api_values(token)).await?)
}

fn exactly_one(changed: u64) -> Result<(), Failure> {
    if changed == 1 { Ok(()) } else { Err(Failure::Overtaken) }
}

pub(super) const IDEMPOTENCY: &str =
    "SELECT i.principal, i.key, i.request_sha256, i.answered, i.created_at FROM idempotency i";

pub(super) fn read_idempotency(row: &mut Cells<'_>) -> Result<IdempotencyRecord, Failure> {
    Ok(IdempotencyRecord {
        principal: row.text()?,
        key: row.text()?,
        request_sha256: row.text()?,
        answered: row.json()?,
        created_at: row.at()?,
    })
}

/// Remembers a request, over an older one of the same key that has had its day.
pub(super) async fn record(tx: &mut Tx<'_>, record: &IdempotencyRecord) -> Result<(), Failure> {
    let sql = "INSERT INTO idempotency (principal, key, request_sha256, answered, created_at) \
        VALUES ($1, $2, $3, $4, $5) ON CONFLICT (principal, key) DO UPDATE SET \
        request_sha256 = excluded.request_sha256, answered = excluded.answered, \
        created_at = excluded.created_at";
    let IdempotencyRecord { principal, key, request_sha256, answered, created_at } = record;
    let answered = serde_json::to_string(answered)
        .map_err(|_| Failure::unreadable("an answer that is not JSON"))?;
    let values =
        params![principal.as_str(), key.as_str(), request_sha256.as_str(), answered, *created_at];
    tx.execute(sql, values).await?;
    Ok(())
}

impl Store {
    /// Enrolment tokens by id, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn enrolment_tokens(&self, page: &Page) -> Result<Paged<EnrolmentToken>, StoreError> {
        let list = List::new(ENROLMENT.to_owned(), "t.id");
        self.read_page("enrolment_tokens", list, page, read_enrolment, |token| {
            token.id.as_str().to_owned()
        })
        .await
    }

    /// API tokens by id, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn api_tokens(&self, page: &Page) -> Result<Paged<ApiToken>, StoreError> {
        let list = List::new(API.to_owned(), "t.id");
        self.read_page("api_tokens", list, page, read_api, |token| token.id.as_str().to_owned())
            .await
    }

    /// What is remembered of a principal's request under that key.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn idempotent_request(
        &self,
        principal: &str,
        key: &str,
    ) -> Result<Option<IdempotencyRecord>, StoreError> {
        let sql = format!("{IDEMPOTENCY} WHERE i.principal = $1 AND i.key = $2");
        self.read_one("idempotent_request", sql, params![principal, key], read_idempotency).await
    }

    /// The API token of that id.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn api_token(&self, id: &ApiTokenId) -> Result<Option<ApiToken>, StoreError> {
        self.read_one("api_token", format!("{API} WHERE t.id = $1"), params![id.as_str()], read_api)
            .await
    }
}
