//! What a request carries, read strictly: unknown fields, wrong types and surplus bodies are
//! mistakes, and each is named with a JSON pointer.

use std::str::FromStr;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;

use super::problem::ApiError;

/// Largest request body, in bytes.
pub(crate) const BODY_BYTES_MAX: usize = 1024 * 1024;

const OBJECT_EXPECTED: &str = "an object is expected here";

/// A JSON body, with its bytes' use for recognising a repeated request.
#[derive(Debug)]
pub(crate) struct Json<T>(pub T, pub Bytes);

/// The bytes of a body.
pub(crate) type Bytes = axum::body::Bytes;

/// A JSON body that may be left out.
#[derive(Debug)]
pub(crate) struct OptionalJson<T>(pub T, pub Bytes);

/// No body at all (an empty JSON object passes).
#[derive(Debug)]
pub(crate) struct NoBody;

/// The id in the path; a text of another shape names nothing.
#[derive(Debug)]
pub(crate) struct Id<T>(pub T);

/// The query, with unknown and repeated parameters refused by its type.
#[derive(Debug)]
pub(crate) struct Params<T>(pub T);

async fn bytes(body: Body) -> Result<Bytes, ApiError> {
    match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let detail = format!("a request body has at most {BODY_BYTES_MAX} bytes");
            Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE", detail))
        }
        Err(_) => {
            let detail = "the request's body ended before it was whole";
            Err(ApiError::new(StatusCode::BAD_REQUEST, "BODY_CUT_SHORT", detail))
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (first, second) = (values.next(), values.next());
    let text = first.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim();
    second.is_none() && essence.eq_ignore_ascii_case("application/json")
}

fn check_type(headers: &HeaderMap) -> Result<(), ApiError> {
    if is_json(headers) {
        return Ok(());
    }
    let detail = "send the body as `Content-Type: application/json`";
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", detail))
}

/// Reads a JSON document; what is wrong is told with the place it is at.
fn parse<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value: T = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let place = pointer(error.path());
        let error = error.into_inner();
        match error.classify() {
            serde_json::error::Category::Data => wrong_shape(&place, &error.to_string()),
            // A number or null where one of several words is expected counts as syntax there.
            _ if serde_json::from_slice::<IgnoredAny>(bytes).is_ok() => {
                wrong_shape(&place, "a value of another kind is expected here")
            }
            serde_json::error::Category::Syntax
            | serde_json::error::Category::Eof
            | serde_json::error::Category::Io => {
                match serde_json::from_slice::<serde::de::IgnoredAny>(bytes) {
                    // An array with more members than the object it is taken for has fields.
                    Ok(_) => ApiError::field("INVALID_REQUEST", place, OBJECT_EXPECTED),
                    Err(_) => not_json(&error),
                }
            }
        }
    })?;
    reader.end().map_err(|error| not_json(&error))?;
    // serde takes an array for an object, its fields in their order; nobody means that.
    let raw: Value = serde_json::from_slice(bytes).map_err(|error| not_json(&error))?;
    let read = serde_json::to_value(&value).map_err(|error| not_json(&error))?;
    match array_for_object(&raw, &read, String::new()) {
        Some(place) => Err(ApiError::field("INVALID_REQUEST", place, OBJECT_EXPECTED)),
        None => Ok(value),
    }
}

/// Where the raw document has an array and what was read of it an object.
fn array_for_object(raw: &Value, read: &Value, place: String) -> Option<String> {
    match (raw, read) {
        (Value::Array(_), Value::Object(_)) => Some(place),
        (Value::Object(raw), Value::Object(read)) => raw.iter().find_map(|(key, value)| {
            array_for_object(value, read.get(key)?, format!("{place}/{key}"))
        }),
        (Value::Array(raw), Value::Array(read)) => raw
            .iter()
            .zip(read)
            .enumerate()
            .find_map(|(at, (raw, read))| array_for_object(raw, read, format!("{place}/{at}"))),
        (
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_),
            _,
        )
        | (Value::Array(_), _) => None,
    }
}

fn not_json(error: &serde_json::Error) -> ApiError {
    ApiError::field("BODY_NOT_JSON", "", format!("the body is not one JSON document: {error}"))
}

/// A document of another shape. serde names an unknown or missing field only in its message.
fn wrong_shape(place: &str, message: &str) -> ApiError {
    let message = message.split(" at line ").next().unwrap_or(message);
    // What follows would be the name of a type of ours.
    let of_object = message.contains("expected struct ") || message.contains("expected a map");
    let message = if of_object { OBJECT_EXPECTED } else { message };
    let named = message.split('`').nth(1).unwrap_or_default();
    let last = place.rsplit('/').next().unwrap_or_default();
    let at_field = message.starts_with("unknown field") || message.starts_with("missing field");
    let pointer = if at_field && last != named { format!("{place}/{named}") } else { place.into() };
    let code =
        if message.starts_with("unknown field") { "UNKNOWN_FIELD" } else { "INVALID_REQUEST" };
    ApiError::field(code, pointer, message)
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path {
        let text = match segment {
            Segment::Seq { index } => index.to_string(),
            Segment::Map { key } => key.replace('~', "~0").replace('/', "~1"),
            Segment::Enum { variant } => variant.clone(),
            Segment::Unknown => continue,
        };
        pointer.push('/');
        pointer.push_str(&text);
    }
    pointer
}

impl<S: Send + Sync, T: DeserializeOwned + Serialize> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        check_type(&parts.headers)?;
        let bytes = bytes(body).await?;
        Ok(Self(parse(&bytes)?, bytes))
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Serialize + Default> FromRequest<S> for OptionalJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let bytes = bytes(body).await?;
        if bytes.is_empty() {
            return Ok(Self(T::default(), bytes));
        }
        check_type(&parts.headers)?;
        Ok(Self(parse(&bytes)?, bytes))
    }
}

impl<S: Send + Sync> FromRequest<S> for NoBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        #[derive(serde::Deserialize, serde::Serialize)]
        #[serde(deny_unknown_fields)]
        struct Nothing {}

        let bytes = bytes(request.into_body()).await?;
        if !bytes.is_empty() {
            parse::<Nothing>(&bytes)?;
        }
        Ok(Self)
    }
}

impl<S: Send + Sync, T: FromStr<Err: std::fmt::Display> + Send> FromRequestParts<S> for Id<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let text = Path::<String>::from_request_parts(parts, state).await.ok();
        let Path(text) = text.unwrap_or_else(|| Path(String::new()));
        text.parse().map(Self).map_err(|error| {
            let detail = format!("the path names nothing there is: {error}");
            ApiError::new(StatusCode::NOT_FOUND, "NOT_FOUND", detail)
        })
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(params)) => Ok(Self(params)),
            Err(rejection) => Err(wrong_query(&rejection)),
        }
    }
}

fn wrong_query(rejection: &QueryRejection) -> ApiError {
    let source = std::error::Error::source(rejection);
    let message = source.map_or_else(|| rejection.to_string(), ToString::to_string);
    let named = message.split('`').nth(1).filter(|_| message.contains("field"));
    let pointer = match (named, message.split_once(": ")) {
        (Some(name), _) => format!("?{name}"),
        (None, Some((name, _))) => format!("?{name}"),
        (None, None) => "?".to_owned(),
    };
    ApiError::field("INVALID_QUERY", pointer, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::{CreateEnvironment, SetCaches};

    fn wrong<T: DeserializeOwned + Serialize>(text: &str) -> (&'static str, String) {
        let error = parse::<T>(text.as_bytes()).err().unwrap();
        (error.code, error.errors[0].pointer.clone())
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        assert_eq!(wrong::<SetCaches>(""), ("BODY_NOT_JSON", String::new()));
        assert_eq!(wrong::<SetCaches>("{} x"), ("BODY_NOT_JSON", String::new()));
        for array in ["[]", "[true]"] {
            assert_eq!(wrong::<SetCaches>(array), ("INVALID_REQUEST", String::new()));
        }
        assert_eq!(wrong::<SetCaches>("{\"x\":1}"), ("UNKNOWN_FIELD", "/x".to_owned()));
        let place = "/redis_cache_enabled".to_owned();
        for value in ["\"true\"", "1", "null"] {
            let body = format!("{{\"redis_cache_enabled\":{value}}}");
            assert_eq!(wrong::<SetCaches>(&body), ("INVALID_REQUEST", place.clone()));
        }
        let nested = "{\"name\":\"a\",\"host\":\"h\",\"domain\":\"d\",\"kind\":\"php\",\
                      \"docroot\":\"/a\",\"user\":\"u\",\"nginx\":{\"x\":1}}";
        assert_eq!(wrong::<CreateEnvironment>(nested), ("UNKNOWN_FIELD", "/nginx/x".to_owned()));
        let array = nested.replace("{\"x\":1}", "[]");
        assert_eq!(wrong::<CreateEnvironment>(&array), ("INVALID_REQUEST", "/nginx".to_owned()));
        for value in ["1", "null", "[]"] {
            let kind = nested.replace("\"php\"", value);
            assert_eq!(wrong::<CreateEnvironment>(&kind), ("INVALID_REQUEST", "/kind".to_owned()));
        }
        let missing = wrong::<CreateEnvironment>("{\"name\":\"a\"}");
        assert_eq!(missing, ("INVALID_REQUEST", "/host".to_owned()));
    }
}
