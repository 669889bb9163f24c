//! Settings of the store of bundles: a bucket of an S3-compatible server, or none: then the data
//! directory.
//!
//! Keys come from files of their own; neither a flag nor the environment holds one.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Deserialize;

use crate::bundles::s3::S3Settings;

/// The region, unless another is named: what servers that have none expect.
pub(super) const REGION_DEFAULT: &str = "us-east-1";

/// The bucket, by flags and environment.
#[derive(Debug, Clone, Default, Args)]
pub struct BundlesArgs {
    /// S3-compatible server for bundles: `https://host:port`; in the data directory if not given
    #[arg(long, env = "HOSTLER_BUNDLES_ENDPOINT", value_name = "URL", global = true)]
    pub bundles_endpoint: Option<String>,
    /// The bucket there
    #[arg(long, env = "HOSTLER_BUNDLES_BUCKET", value_name = "NAME", global = true)]
    pub bundles_bucket: Option<String>,
    /// Its region; `us-east-1` if not given
    #[arg(long, env = "HOSTLER_BUNDLES_REGION", value_name = "NAME", global = true)]
    pub bundles_region: Option<String>,
    /// What names in the bucket begin with; nothing if not given
    #[arg(long, env = "HOSTLER_BUNDLES_PREFIX", value_name = "PREFIX", global = true)]
    pub bundles_prefix: Option<String>,
    /// File with the id of the access key
    #[arg(long, env = "HOSTLER_BUNDLES_ACCESS_KEY_FILE", value_name = "FILE", global = true)]
    pub bundles_access_key_file: Option<PathBuf>,
    /// File with the secret of the access key
    #[arg(long, env = "HOSTLER_BUNDLES_SECRET_KEY_FILE", value_name = "FILE", global = true)]
    pub bundles_secret_key_file: Option<PathBuf>,
    /// File with the certificates (PEM) the server's must come from, instead of the system's
    #[arg(long, env = "HOSTLER_BUNDLES_CA_FILE", value_name = "FILE", global = true)]
    pub bundles_ca_file: Option<PathBuf>,
}

/// Section `[bundles]` of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BundlesFile {
    pub endpoint: Option<String>,
    pub bucket: Option<String>,
    pub region: Option<String>,
    pub prefix: Option<String>,
    pub access_key_file: Option<PathBuf>,
    pub secret_key_file: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
}

/// Resolves flags and environment over the file; `None`: bundles are in the data directory.
pub(super) fn resolve(
    args: BundlesArgs,
    file: BundlesFile,
    wrong: &mut Vec<String>,
) -> Option<S3Settings> {
    let file = BundlesFile {
        endpoint: args.bundles_endpoint.or(file.endpoint),
        bucket: args.bundles_bucket.or(file.bucket),
        region: args.bundles_region.or(file.region),
        prefix: args.bundles_prefix.or(file.prefix),
        access_key_file: args.bundles_access_key_file.or(file.access_key_file),
        secret_key_file: args.bundles_secret_key_file.or(file.secret_key_file),
        ca_file: args.bundles_ca_file.or(file.ca_file),
    };
    if file == BundlesFile::default() {
        return None;
    }
    let before = wrong.len();
    let endpoint = named("endpoint", file.endpoint, wrong);
    if !endpoint.is_empty() && !is_endpoint(&endpoint) {
        wrong.push(
            "bundles-endpoint: not of the form https://host:port (http:// where the network is \
             trusted), without a path, a user or a password"
                .to_owned(),
        );
    }
    let settings = S3Settings {
        endpoint,
        bucket: named("bucket", file.bucket, wrong),
        region: file.region.unwrap_or_else(|| REGION_DEFAULT.to_owned()),
        prefix: file.prefix.unwrap_or_default(),
        access_key_file: readable("access-key-file", file.access_key_file, wrong),
        secret_key_file: readable("secret-key-file", file.secret_key_file, wrong),
        ca_file: file.ca_file.map(|path| readable("ca-file", Some(path), wrong)),
    };
    (wrong.len() == before).then_some(settings)
}

/// Never repeats the text: somebody may have put a password into it.
fn is_endpoint(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let host = rest.map(|rest| rest.strip_suffix('/').unwrap_or(rest));
    host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '@', '?', '#', ' ']))
}

fn missing(name: &str, wrong: &mut Vec<String>) {
    let variable = name.replace('-', "_").to_ascii_uppercase();
    wrong.push(format!(
        "bundles-{name}: missing, though other settings of the bucket are there: set \
         HOSTLER_BUNDLES_{variable}"
    ));
}

fn named(name: &str, given: Option<String>, wrong: &mut Vec<String>) -> String {
    let given = given.filter(|text| !text.is_empty());
    given.unwrap_or_else(|| {
        missing(name, wrong);
        String::new()
    })
}

fn readable(name: &str, given: Option<PathBuf>, wrong: &mut Vec<String>) -> PathBuf {
    let Some(path) = given else {
        missing(name, wrong);
        return PathBuf::new();
    };
    if let Err(why) = std::fs::File::open(Path::new(&path)) {
        wrong.push(format!("bundles-{name}: {}: {why}", path.display()));
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(file: BundlesFile) -> Result<Option<S3Settings>, String> {
        let mut wrong = Vec::new();
        let settings = resolve(BundlesArgs::default(), file, &mut wrong);
        if wrong.is_empty() { Ok(settings) } else { Err(wrong.join("\n")) }
    }

    #[test]
    fn without_settings_there_is_no_bucket() {
        assert_eq!(resolved(BundlesFile::default()), Ok(None));
    }

    #[test]
    fn flags_win_and_what_is_not_named_has_its_default() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("key");
        std::fs::write(&key, "k").unwrap();
        let file = BundlesFile {
            endpoint: Some("https://s3.example".to_owned()),
            bucket: Some("one".to_owned()),
            access_key_file: Some(key.clone()),
            secret_key_file: Some(key),
            ..BundlesFile::default()
        };
        let args = BundlesArgs { bundles_bucket: Some("two".to_owned()), ..Default::default() };
        let settings = resolve(args, file, &mut Vec::new()).unwrap();
        assert_eq!((settings.bucket.as_str(), settings.prefix.as_str()), ("two", ""));
        assert_eq!((settings.region.as_str(), settings.ca_file), (REGION_DEFAULT, None));
    }

    #[test]
    fn everything_wrong_is_told_at_once_and_no_password_is() {
        let told = resolved(BundlesFile {
            endpoint: Some("https://me:hunter2@s3.example".to_owned()),
            access_key_file: Some("/nowhere/key".into()),
            ca_file: Some("/nowhere/ca".into()),
            ..BundlesFile::default()
        });
        let told = told.unwrap_err();
        for part in [
            "bundles-endpoint: not",
            "HOSTLER_BUNDLES_BUCKET",
            "bundles-access-key-file: /nowhere/key",
            "HOSTLER_BUNDLES_SECRET_KEY_FILE",
            "bundles-ca-file: /nowhere/ca",
        ] {
            assert!(told.contains(part), "{part} is not told: {told}");
        }
        assert!(!told.contains("hunter2"), "{told}");
        for bad in ["s3.example", "ftp://x", "https://", "https://x/bucket", "https://x?y"] {
            assert!(!is_endpoint(bad), "{bad}");
        }
        for good in ["https://s3.example", "http://127.0.0.1:9000/", "https://[::1]:9000"] {
            assert!(is_endpoint(good), "{good}");
        }
    }
}
