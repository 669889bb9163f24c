//! Where a volume of a compose file comes from, in its short and its long syntax
//! (<https://docs.docker.com/reference/compose-file/services/#volumes>).

use super::yaml::Yaml;

/// The path a service's volume binds, if it binds one that is written relative to the file. A
/// missing source is no error: Compose makes it on the host.
pub(super) fn bind_source(volume: &Yaml) -> Option<&str> {
    match volume {
        Yaml::Text(short) => {
            let (source, _) = split_colon(short)?;
            is_path(source).then_some(source)
        }
        Yaml::Map(long) => {
            let bind = long.get("type").and_then(Yaml::as_text) == Some("bind");
            let source = long.get("source").or_else(|| long.get("src"))?.as_text()?;
            bind.then_some(source)
        }
        Yaml::Null | Yaml::Bool(_) | Yaml::Number(_) | Yaml::List(_) => None,
    }
}

/// The path a named volume binds by its driver's options.
pub(super) fn bound_device(volume: &Yaml) -> Option<&str> {
    if volume.get("driver").and_then(Yaml::as_text).is_some_and(|driver| driver != "local") {
        return None;
    }
    let options = volume.get("driver_opts")?;
    let bind = options.get("o")?.as_text()?.split(',').any(|option| option == "bind");
    if bind { options.get("device")?.as_text() } else { None }
}

/// Whether a short volume's source is a path and no volume's name. One that begins with a variable
/// may be either.
fn is_path(source: &str) -> bool {
    source.starts_with(['.', '/', '~', '$'])
}

/// Splits at the first colon that is not within `${…}`.
fn split_colon(text: &str) -> Option<(&str, &str)> {
    let mut depth = 0_usize;
    let mut before = ' ';
    for (place, c) in text.char_indices() {
        match c {
            '{' if before == '$' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ':' if depth == 0 => return Some((&text[..place], &text[place + 1..])),
            _ => {}
        }
        before = c;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_syntax_has_its_source_first() {
        for (volume, source) in [
            ("./conf:/etc/app:ro", Some("./conf")),
            ("../shares:/s", Some("../shares")),
            (".:/app", Some(".")),
            ("conf/app.ini:/etc/app.ini", None),
            ("data:/var/lib/data", None),
            ("/var/run/docker.sock:/var/run/docker.sock", Some("/var/run/docker.sock")),
            ("/only/inside", None),
            ("${DIR:-./x}/y:/z", Some("${DIR:-./x}/y")),
            ("C:\\app:/app", None),
        ] {
            assert_eq!(bind_source(&Yaml::Text(volume.to_owned())), source, "{volume}");
        }
    }

    #[test]
    fn the_long_syntax_says_its_type() {
        let read = |text: &str| super::super::yaml::read(text.as_bytes()).unwrap().remove(0);
        let bind = read("{type: bind, source: conf, target: /c}");
        assert_eq!(bind_source(&bind), Some("conf"));
        assert_eq!(bind_source(&read("{type: volume, source: conf, target: /c}")), None);
        assert_eq!(bind_source(&read("{type: tmpfs, target: /c}")), None);
        let device = read("{driver: local, driver_opts: {type: none, o: 'bind,ro', device: ./d}}");
        assert_eq!(bound_device(&device), Some("./d"));
        assert_eq!(bound_device(&read("{driver: nfs, driver_opts: {o: bind, device: d}}")), None);
        assert_eq!(bound_device(&read("{driver_opts: {o: addr=1.2.3.4, device: ':/d'}}")), None);
    }
}
