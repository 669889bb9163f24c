//! YAML as a plain value, with every expansion bounded.
//!
//! Aliases make a small text a huge value: each alias is a copy here. What a text expands to is
//! therefore counted while it is read, and a text that expands too far is refused before the
//! memory is used.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use serde::de::{DeserializeSeed, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor};

/// Most values one text expands to, aliases counted as often as they are used.
pub const VALUES_MAX: usize = 200_000;
/// Most bytes of text those values have together.
pub const EXPANDED_BYTES_MAX: usize = 8 << 20;
/// Deepest nesting; the parser itself stops at 128.
pub const DEPTH_MAX: usize = 64;
/// Most documents in one file.
pub const DOCUMENTS_MAX: usize = 64;

/// One value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Yaml {
    Null,
    Bool(bool),
    /// A number, written out.
    Number(String),
    Text(String),
    List(Vec<Yaml>),
    /// Keys that are not text are written out; merge keys (`<<`) are already merged.
    Map(BTreeMap<String, Yaml>),
}

impl Yaml {
    /// The text, if it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::List(_) | Self::Map(_) => None,
        }
    }

    /// The map, if it is one.
    #[must_use]
    pub fn as_map(&self) -> Option<&BTreeMap<String, Yaml>> {
        match self {
            Self::Map(map) => Some(map),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Text(_) | Self::List(_) => None,
        }
    }

    /// What stands under a key, if it is a map that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Yaml> {
        self.as_map()?.get(key)
    }

    /// The items of a list; anything but a list has none.
    #[must_use]
    pub fn items(&self) -> &[Yaml] {
        match self {
            Self::List(items) => items,
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Text(_) | Self::Map(_) => &[],
        }
    }

    /// What kind of value it is, for messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }

    /// What a key of a mapping that is this value is called.
    fn into_key(self) -> Option<String> {
        match self {
            Self::Text(text) | Self::Number(text) => Some(text),
            Self::Bool(value) => Some(value.to_string()),
            Self::Null => Some("null".to_owned()),
            Self::List(_) | Self::Map(_) => None,
        }
    }
}

/// Reads every document of a text.
///
/// # Errors
/// What is wrong with the text, in the parser's words with line and column.
pub fn read(text: &[u8]) -> Result<Vec<Yaml>, String> {
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
    let text = std::str::from_utf8(text).map_err(|_| "the text is not UTF-8".to_owned())?;
    let budget = Budget { values: Cell::new(VALUES_MAX), bytes: Cell::new(EXPANDED_BYTES_MAX) };
    let mut documents = Vec::new();
    for document in serde_norway::Deserializer::from_str(text) {
        if documents.len() == DOCUMENTS_MAX {
            return Err(format!("the text has more than {DOCUMENTS_MAX} documents"));
        }
        let seed = Seed { budget: &budget, depth: 0 };
        documents.push(seed.deserialize(document).map_err(|error| error.to_string())?);
    }
    Ok(documents)
}

struct Budget {
    values: Cell<usize>,
    bytes: Cell<usize>,
}

impl Budget {
    fn spend<E: Error>(&self, bytes: usize) -> Result<(), E> {
        let values = self.values.get().checked_sub(1);
        let bytes = self.bytes.get().checked_sub(bytes);
        let (Some(values), Some(bytes)) = (values, bytes) else {
            return Err(E::custom(format!(
                "the text expands to more than {VALUES_MAX} values or {EXPANDED_BYTES_MAX} bytes; \
                 use fewer aliases"
            )));
        };
        self.values.set(values);
        self.bytes.set(bytes);
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Seed<'a> {
    budget: &'a Budget,
    depth: usize,
}

impl Seed<'_> {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        if self.depth == DEPTH_MAX {
            return Err(E::custom(format!("the text nests deeper than {DEPTH_MAX}")));
        }
        Ok(Self { budget: self.budget, depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Yaml;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Yaml, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Yaml;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Yaml, E> {
        self.budget.spend(0)?;
        Ok(Yaml::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Yaml, E> {
        self.budget.spend(0)?;
        Ok(Yaml::Number(value.to_string()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Yaml, E> {
        self.budget.spend(0)?;
        Ok(Yaml::Number(value.to_string()))
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Yaml, E> {
        self.budget.spend(0)?;
        Ok(Yaml::Number(value.to_string()))
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Yaml, E> {
        self.budget.spend(0)?;
        Ok(Yaml::Number(value.to_string()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Yaml, E> {
        self.budget.spend(0)?;
        Ok(Yaml::Number(value.to_string()))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Yaml, E> {
        self.budget.spend(value.len())?;
        Ok(Yaml::Text(value.to_owned()))
    }

    fn visit_unit<E: Error>(self) -> Result<Yaml, E> {
        self.budget.spend(0)?;
        Ok(Yaml::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Yaml, E> {
        self.visit_unit()
    }

    fn visit_some<D: serde::Deserializer<'de>>(self, value: D) -> Result<Yaml, D::Error> {
        self.deserialize(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Yaml, A::Error> {
        self.budget.spend(0)?;
        let below = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(below)? {
            items.push(item);
        }
        Ok(Yaml::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Yaml, A::Error> {
        self.budget.spend(0)?;
        let below = self.deeper()?;
        let mut own = BTreeMap::new();
        let mut merged = None;
        while let Some(key) = map.next_key_seed(below)? {
            let Some(key) = key.into_key() else {
                return Err(A::Error::custom("a key is a list or a mapping"));
            };
            let value = map.next_value_seed(below)?;
            if key == "<<" {
                if merged.replace(value).is_some() {
                    return Err(A::Error::custom("the key `<<` stands twice in one mapping"));
                }
                continue;
            }
            match own.entry(key) {
                Entry::Vacant(entry) => {
                    entry.insert(value);
                }
                Entry::Occupied(entry) => {
                    return Err(A::Error::custom(format!(
                        "the key `{}` stands twice",
                        entry.key()
                    )));
                }
            }
        }
        if let Some(merged) = merged {
            merge(&mut own, merged).map_err(A::Error::custom)?;
        }
        Ok(Yaml::Map(own))
    }

    /// A value with a tag of its own, as Compose's `!reset` and `!override`: the tag is dropped.
    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Yaml, A::Error> {
        let (Tag, value) = data.variant()?;
        value.newtype_variant_seed(self)
    }
}

struct Tag;

impl<'de> serde::Deserialize<'de> for Tag {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|_| Self)
    }
}

/// Merges what stands under `<<` below a mapping's own keys; of several mappings the first that
/// has a key counts (<https://yaml.org/type/merge.html>).
fn merge(own: &mut BTreeMap<String, Yaml>, merged: Yaml) -> Result<(), String> {
    match merged {
        Yaml::Map(map) => {
            for (key, value) in map {
                own.entry(key).or_insert(value);
            }
        }
        Yaml::List(items) => {
            for item in items {
                match item {
                    Yaml::Map(_) => merge(own, item)?,
                    Yaml::Null
                    | Yaml::Bool(_)
                    | Yaml::Number(_)
                    | Yaml::Text(_)
                    | Yaml::List(_) => return Err("`<<` merges only mappings".to_owned()),
                }
            }
        }
        Yaml::Null => {}
        Yaml::Bool(_) | Yaml::Number(_) | Yaml::Text(_) => {
            return Err("`<<` merges only mappings".to_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Yaml {
        let mut all = read(text.as_bytes()).unwrap();
        assert_eq!(all.len(), 1);
        all.remove(0)
    }

    #[test]
    fn values_are_read_as_they_stand() {
        let value = one("a: [1, true, ~, x, 1.5]\n8080: {b: 'c'}\n");
        let items = value.get("a").unwrap().items();
        assert_eq!(items[0], Yaml::Number("1".into()));
        assert_eq!(items[1], Yaml::Bool(true));
        assert_eq!(items[2], Yaml::Null);
        assert_eq!(items[3].as_text(), Some("x"));
        assert_eq!(items[4], Yaml::Number("1.5".into()));
        assert_eq!(value.get("8080").unwrap().get("b").unwrap().as_text(), Some("c"));
        assert_eq!(one("a: !reset null\nb: !override [x]").get("b").unwrap().items().len(), 1);
    }

    #[test]
    fn merge_keys_and_anchors_are_accepted() {
        let value = one("x: &x {a: 1, b: 2}\ny: &y {b: 3, c: 4}\nz:\n  <<: [*x, *y]\n  a: 9\n");
        let z = value.get("z").unwrap();
        assert_eq!(z.get("a"), Some(&Yaml::Number("9".into())));
        assert_eq!(z.get("b"), Some(&Yaml::Number("2".into())));
        assert_eq!(z.get("c"), Some(&Yaml::Number("4".into())));
        assert!(read(b"a:\n  <<: 1\n").is_err());
    }

    #[test]
    fn bad_text_is_refused_with_a_place() {
        for text in ["a: [", "a: 1\na: 2\n", "a: *nowhere", "\t- x: y: z", "{a: 1}}"] {
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
        assert!(read(b"a: [1\nb: 2").unwrap_err().contains("line"));
        assert!(read(b"a: \xff").unwrap_err().contains("UTF-8"));
        assert_eq!(read("\u{feff}a: 1".as_bytes()).unwrap().len(), 1);
        assert_eq!(read(b"a: 1\n---\nb: 2\n").unwrap().len(), 2);
        assert!(read("---\na: 1\n".repeat(DOCUMENTS_MAX + 1).as_bytes()).is_err());
    }

    #[test]
    fn alias_bombs_and_deep_nesting_are_refused() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..9 {
            let before = format!("*a{}", n - 1);
            bomb += &format!("a{n}: &a{n} [{}]\n", [before.as_str(); 10].join(", "));
        }
        assert!(read(bomb.as_bytes()).is_err());
        let text = "y".repeat(500_000);
        let many = ["*t"; 1_000].join(", ");
        let error = read(format!("t: &t {text}\nl: [{many}]\n").as_bytes()).unwrap_err();
        assert!(error.contains("expands"), "{error}");
        let deep = format!("{}{}", "[".repeat(DEPTH_MAX + 2), "]".repeat(DEPTH_MAX + 2));
        assert!(read(deep.as_bytes()).is_err());
        let cycle = read(b"a: &a [*a]");
        assert!(cycle.is_err());
    }
}
