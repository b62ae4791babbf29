//! Reads a job's `data`: one flat pass that finds the known fields, then one check per field that names what is wrong.
//!
//! A field stays raw JSON text until it is checked. So numbers keep every digit, no tree of values is built, and depth
//! costs no stack.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::Money;
use crate::domain::{MAX_ID_BYTES, Malformed};

/// Where an object stands in the entry.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// It is `data` itself.
    Data,
    /// It is the element with this index of this list in `data`.
    Element(&'static str, usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data => f.write_str("data"),
            Self::Element(list, index) => write!(f, "data.{list}[{index}]"),
        }
    }
}

/// One known field of an object, present or not.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    place: Place,
    name: &'static str,
    raw: Option<&'a str>,
}

/// The fields `names` of the object that `json` is; others are ignored.
pub fn read<'a, const N: usize>(
    json: &'a str,
    place: Place,
    names: [&'static str; N],
) -> Result<[Field<'a>; N], Malformed> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let found = deserializer
        .deserialize_map(Object { names })
        .and_then(|found| deserializer.end().map(|()| found))
        .map_err(|error| unreadable(place, &error))?;
    if let Some(name) = found.repeated {
        return Err(Field { place, name, raw: None }.malformed("is given twice"));
    }
    let mut raw = found.raw.into_iter();
    Ok(names.map(|name| Field { place, name, raw: raw.next().flatten() }))
}

/// Syntax errors tell a position but quote nothing, so even those about large or private data are safe to store.
fn unreadable(place: Place, error: &serde_json::Error) -> Malformed {
    let problem = match error.classify() {
        Category::Data => "must be a JSON object".to_owned(),
        Category::Syntax | Category::Eof | Category::Io => format!("is not valid JSON: {error}"),
    };
    Malformed::new(place.to_string(), problem)
}

struct Object<const N: usize> {
    names: [&'static str; N],
}

struct Found<'a, const N: usize> {
    raw: [Option<&'a str>; N],
    repeated: Option<&'static str>,
}

impl<'de, const N: usize> Visitor<'de> for Object<N> {
    type Value = Found<'de, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = Found { raw: [None; N], repeated: None };
        while let Some(known) = map.next_key_seed(Name(&self.names))? {
            let Some(index) = known else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let value: &'de RawValue = map.next_value()?;
            if found.raw[index].replace(value.get()).is_some() {
                found.repeated = Some(self.names[index]);
            }
        }
        Ok(found)
    }
}

/// Finds the index of a key among the known ones without copying it.
struct Name<'n>(&'n [&'static str]);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E>(self, key: &str) -> Result<Option<usize>, E> {
        Ok(self.0.iter().position(|name| *name == key))
    }
}

impl<'a> Field<'a> {
    /// The field is wrong because it `problem`.
    pub fn malformed(&self, problem: impl Into<String>) -> Malformed {
        Malformed::new(format!("{}.{}", self.place, self.name), problem)
    }

    fn raw(&self) -> Result<&'a str, Malformed> {
        self.raw.ok_or_else(|| self.malformed("is missing"))
    }

    fn text(&self) -> Result<Cow<'a, str>, Malformed> {
        let raw = self.raw()?;
        let quoted = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let inner = quoted.ok_or_else(|| self.malformed("must be text"))?;
        if !inner.contains('\\') {
            return Ok(Cow::Borrowed(inner));
        }
        serde_json::from_str(raw).map(Cow::Owned).map_err(|_| self.malformed("has an invalid escape sequence"))
    }

    /// Text of 1 to `most` characters.
    pub fn text_up_to(&self, most: usize) -> Result<Cow<'a, str>, Malformed> {
        let text = self.text()?;
        if text.is_empty() || text.chars().nth(most).is_some() {
            return Err(self.malformed(format!("must have 1 to {most} characters")));
        }
        Ok(text)
    }

    /// Text of 1 to `most` characters on one line.
    pub fn line_up_to(&self, most: usize) -> Result<Cow<'a, str>, Malformed> {
        self.text_up_to(most).and_then(|text| self.printable(text))
    }

    /// The id of an aggregate.
    pub fn id(&self) -> Result<Cow<'a, str>, Malformed> {
        let text = self.text()?;
        if text.is_empty() || text.len() > MAX_ID_BYTES {
            return Err(self.malformed(format!("must have 1 to {MAX_ID_BYTES} bytes")));
        }
        self.printable(text)
    }

    fn printable(&self, text: Cow<'a, str>) -> Result<Cow<'a, str>, Malformed> {
        if text.chars().any(char::is_control) {
            return Err(self.malformed("must not contain control characters"));
        }
        Ok(text)
    }

    fn digits(&self) -> Result<&'a str, Malformed> {
        let raw = self.raw()?;
        if !raw.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(self.malformed("must be an unsigned integer"));
        }
        Ok(raw)
    }

    /// An unsigned integer that names something.
    pub fn number(&self) -> Result<u64, Malformed> {
        self.digits()?.parse().map_err(|_| self.malformed(format!("must be at most {}", u64::MAX)))
    }

    /// An unsigned integer that counts something, at least `least`. What is beyond 64 bits becomes the largest number,
    /// because a count that is too large is well formed: it is for the rules to reject it.
    pub fn count(&self, least: u64) -> Result<u64, Malformed> {
        let count = self.digits()?.parse().unwrap_or(u64::MAX);
        if count < least {
            return Err(self.malformed(format!("must be at least {least}")));
        }
        Ok(count)
    }

    /// Money, as text or as a number; it may be more than fits.
    pub fn money(&self) -> Result<Money, Malformed> {
        let raw = self.raw()?;
        let text = if raw.starts_with('"') { self.text()? } else { Cow::Borrowed(raw) };
        text.parse::<Money>().map_err(|problem| self.malformed(problem.to_string()))
    }

    /// True or false.
    pub fn boolean(&self) -> Result<bool, Malformed> {
        match self.raw()? {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.malformed("must be true or false")),
        }
    }

    /// The elements of a list of 1 to `most`, each as JSON text.
    pub fn list(&self, most: usize) -> Result<Vec<&'a RawValue>, Malformed> {
        let elements: Vec<&RawValue> =
            serde_json::from_str(self.raw()?).map_err(|_| self.malformed("must be a list"))?;
        if elements.is_empty() || elements.len() > most {
            return Err(self.malformed(format!("must have 1 to {most} elements")));
        }
        Ok(elements)
    }
}

/// Serialises shared text, for `#[serde(with)]`.
pub mod shared_text {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes the text.
    pub fn serialize<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text)
    }

    /// Reads the text.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<str>, D::Error> {
        String::deserialize(deserializer).map(Arc::from)
    }
}

/// Serialises a shared list, for `#[serde(with)]`.
pub mod shared_list {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Writes the list.
    pub fn serialize<T: Serialize, S: Serializer>(list: &Arc<[T]>, serializer: S) -> Result<S::Ok, S::Error> {
        list.as_ref().serialize(serializer)
    }

    /// Reads the list.
    pub fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<[T]>, D::Error> {
        Vec::deserialize(deserializer).map(Arc::from)
    }
}
