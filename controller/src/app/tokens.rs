//! Tokens: enrolment tokens with their join strings, and API tokens.

use hostler_protocol::id::{ApiTokenId, EnrolmentTokenId};
use hostler_protocol::join::Join;
use sha2::{Digest as _, Sha256};

use super::{App, AppError, view};
use crate::domain::decide::token;
use crate::domain::{ApiScope, ApiToken, Scope};
use crate::store::{Page, StoreError};
use crate::views;

/// What every API token begins with.
pub const API_TOKEN_PREFIX: &str = "hst_";
/// An API token a request shows, taken apart; only a hash of its secret is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownToken {
    pub id: ApiTokenId,
    pub secret_sha256: String,
}

impl ShownToken {
    /// Takes `hst_<id>_<secret>` apart; `None` if it is not of that shape.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (body, secret) = text.strip_prefix(API_TOKEN_PREFIX)?.split_once('_')?;
        let secret: [u8; 32] = hex::decode(secret).ok()?.try_into().ok()?;
        let id = format!("{}_{body}", ApiTokenId::PREFIX).parse().ok()?;
        Some(Self { id, secret_sha256: hash(&secret) })
    }
}

fn hash(secret: &[u8]) -> String {
    hex::encode(Sha256::digest(secret))
}

impl App {
    /// A new enrolment token with its join string, told this once.
    ///
    /// # Errors
    /// As [`token::create_enrolment`]; [`AppError::NowhereToJoin`].
    pub async fn create_enrolment_token(
        &self,
        asked: views::CreateEnrolmentToken,
    ) -> Result<views::EnrolmentTokenCreated, AppError> {
        if self.join.addresses.is_empty() {
            return Err(AppError::NowhereToJoin);
        }
        let (id, secret) = (self.clock.new_enrolment_token_id()?, self.clock.random::<32>()?);
        let (now, sha256) = (self.clock.now(), hash(&secret));
        let scope = Scope { host_named: asked.host_name.clone(), ..Scope::default() };
        let decide = move |snapshot: &_| {
            let (id, sha256) = (id.clone(), sha256.clone());
            token::create_enrolment(
                snapshot,
                id,
                sha256,
                asked.host_name.clone(),
                asked.ttl_secs,
                now,
            )
        };
        let made = self.store.transact("create_enrolment_token", scope, decide).await?.reply;
        let join = Join {
            addresses: self.join.addresses.clone(),
            pin: self.join.pin,
            token: made.id.clone(),
            secret,
        };
        Ok(views::EnrolmentTokenCreated {
            id: made.id.into(),
            host_name: made.host_name,
            expires_at: view::time(made.expires_at),
            join: join.format(),
        })
    }

    /// One page of enrolment tokens.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub async fn list_enrolment_tokens(
        &self,
        page: &Page,
    ) -> Result<views::EnrolmentTokenPage, AppError> {
        let now = self.clock.now();
        let (items, next) = self.store.enrolment_tokens(page).await?;
        let items = items.into_iter().map(|token| view::enrolment_token(token, now)).collect();
        Ok(views::EnrolmentTokenPage { items, next })
    }

    /// Forgets an enrolment token.
    ///
    /// # Errors
    /// As [`token::delete_enrolment`].
    pub async fn delete_enrolment_token(&self, id: EnrolmentTokenId) -> Result<(), AppError> {
        let now = self.clock.now();
        let scope = Scope { enrolment_token: Some(id.clone()), ..Scope::default() };
        let decide = move |snapshot: &_| token::delete_enrolment(snapshot, &id, now);
        self.store.transact("delete_enrolment_token", scope, decide).await?;
        Ok(())
    }

    /// A new API token and its text, told this once.
    ///
    /// # Errors
    /// As [`token::create_api`].
    pub async fn create_api_token(
        &self,
        name: String,
        scope: ApiScope,
        ttl_secs: Option<u64>,
    ) -> Result<(ApiToken, String), AppError> {
        let (id, secret) = (self.clock.new_api_token_id()?, self.clock.random::<32>()?);
        let now = self.clock.now();
        let body = id.as_str().trim_start_matches(ApiTokenId::PREFIX).trim_start_matches('_');
        let text = format!("{API_TOKEN_PREFIX}{body}_{}", hex::encode(secret));
        let token = ApiToken {
            id,
            name,
            secret_sha256: hash(&secret),
            scope,
            created_at: now,
            expires_at: ttl_secs.map(|secs| now.plus_secs(secs)),
            revoked_at: None,
        };
        let decide = move |_: &_| token::create_api(token.clone(), now);
        let made = self.store.transact("create_api_token", Scope::default(), decide).await?;
        Ok((made.reply, text))
    }

    /// Ends an API token.
    ///
    /// # Errors
    /// As [`token::revoke_api`].
    pub async fn revoke_api_token(&self, id: ApiTokenId) -> Result<ApiToken, AppError> {
        let now = self.clock.now();
        let scope = Scope { api_token: Some(id.clone()), ..Scope::default() };
        let decide = move |snapshot: &_| token::revoke_api(snapshot, &id, now);
        Ok(self.store.transact("revoke_api_token", scope, decide).await?.reply)
    }

    /// The token a request shows, if it is one of ours, not expired and not revoked.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub async fn token_shown(&self, shown: &ShownToken) -> Result<Option<ApiToken>, AppError> {
        let known = self.store.api_token(&shown.id).await?;
        Ok(known.filter(|token| {
            token::same(&token.secret_sha256, &shown.secret_sha256) && self.holds(token)
        }))
    }

    /// Whether a token that was shown before is still good.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read.
    pub async fn token_holds(&self, id: &ApiTokenId) -> Result<bool, StoreError> {
        Ok(self.store.api_token(id).await?.is_some_and(|token| self.holds(&token)))
    }

    fn holds(&self, token: &ApiToken) -> bool {
        token.revoked_at.is_none() && token.expires_at.is_none_or(|at| self.clock.now() < at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_token_is_taken_apart() {
        let text = format!("hst_{}_{}", "0".repeat(26), "ab".repeat(32));
        let shown = ShownToken::parse(&text).unwrap();
        assert_eq!(shown.id.as_str(), format!("tok_{}", "0".repeat(26)));
        assert_eq!(shown.secret_sha256, hash(&[0xab; 32]));
        for bad in ["", "hst_", "hst_x_y", &text[1..], &text[..text.len() - 2]] {
            assert_eq!(ShownToken::parse(bad), None, "{bad:?}");
        }
    }
}
