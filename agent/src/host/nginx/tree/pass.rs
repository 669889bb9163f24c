//! Where a location passes requests to.

use std::path::Path;

use super::{Node, parse, sightings, split};

/// Address of the FastCGI server that the location around `file` passes to
/// (`unix:/run/php.sock`, `127.0.0.1:9000`); of a named group the first server. `None` when it
/// passes to none, or to one that only a request decides.
#[must_use]
pub fn passed_to(dump: &str, file: &Path) -> Option<String> {
    let seen = sightings(dump, &[file.to_path_buf()]);
    let pass = seen.iter().rev().find_map(|sighting| {
        sighting.levels.iter().rev().find_map(|level| level.fastcgi_pass.clone())
    })?;
    if pass.contains('$') {
        return None;
    }
    let files = split(dump);
    let group = files.iter().find_map(|(_, text)| upstream(&parse(text), &pass));
    Some(group.unwrap_or(pass))
}

/// The first server of the group of that name.
fn upstream(nodes: &[Node], name: &str) -> Option<String> {
    nodes.iter().find_map(|node| {
        let inner = node.block.as_deref()?;
        if node.name == "upstream" && node.args.first().is_some_and(|own| own == name) {
            let server = inner.iter().find(|node| node.name == "server")?;
            return server.args.first().cloned();
        }
        upstream(inner, name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dump(pass: &str) -> String {
        format!(
            "# configuration file /etc/nginx/nginx.conf:\n\
             http {{ upstream php {{ least_conn; server unix:/run/php8.sock weight=2; }}\n\
             include /etc/nginx/sites/*; }}\n\
             # configuration file /etc/nginx/sites/shop:\n\
             server {{ location ~ [.]php$ {{ include /h/location*.conf; fastcgi_pass {pass}; }} }}\n"
        )
    }

    #[test]
    fn the_address_is_found_by_itself_or_through_its_group() {
        let file = Path::new("/h/location.conf");
        let found = |pass: &str| passed_to(&dump(pass), file);
        assert_eq!(found("unix:/run/php.sock").as_deref(), Some("unix:/run/php.sock"));
        assert_eq!(found("127.0.0.1:9000").as_deref(), Some("127.0.0.1:9000"));
        assert_eq!(found("php").as_deref(), Some("unix:/run/php8.sock"));
        assert_eq!(found("$pool"), None);
        assert_eq!(passed_to(&dump("php"), Path::new("/h/other.conf")), None);
    }
}
