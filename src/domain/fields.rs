//! Types for the fields of a job's data. Each reads a field, says what is wrong with it in the words that
//! [`data`](super::declare::data) puts behind its path, and describes itself in JSON Schema.
//!
//! A field is raw JSON text until it is checked, so that numbers keep every digit and depth costs no stack.

use std::borrow::Cow;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::MAX_ID_BYTES;
use super::declare::Object;

/// No control character: neither of ASCII nor of what follows it.
const PRINTABLE: &str = r"^[^\u0000-\u001f\u007f-\u009f]*$";

/// An unsigned integer that counts something. What is beyond 64 bits becomes the largest number, because a count that is too
/// large is well formed: it is for the rules to reject it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count<const LEAST: u64>(pub u64);

/// An unsigned integer that names something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number(pub u64);

/// Text of 1 to so many characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text<const MOST: usize>(pub Arc<str>);

/// The same on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<const MOST: usize>(pub Arc<str>);

/// The id of an aggregate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Id(pub Arc<str>);

/// A list of 1 to so many objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List<T, const MOST: usize>(pub Vec<Object<T>>);

/// What can be read from JSON text, or says what the text must be instead.
trait Field: Sized {
    fn read(raw: &str) -> Result<Self, String>;
    fn describe() -> Schema;
}

macro_rules! fields {
    ($($type:ty $(, const $limit:ident: $of:ty)?;)+) => { $(
        impl<'de $(, const $limit: $of)?> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::read(<&RawValue>::deserialize(deserializer)?.get()).map_err(D::Error::custom)
            }
        }

        impl$(<const $limit: $of>)? JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                Self::describe()
            }
        }
    )+ };
}

fields! {
    Count<LEAST>, const LEAST: u64;
    Number;
    Text<MOST>, const MOST: usize;
    Line<MOST>, const MOST: usize;
    Id;
}

fn digits(raw: &str) -> Result<&str, String> {
    let is_number = raw.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some(raw).ok_or_else(|| "must be an unsigned integer".to_owned())
}

fn text(raw: &str) -> Result<Cow<'_, str>, String> {
    let inner = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).ok_or("must be text")?;
    if !inner.contains('\\') {
        return Ok(Cow::Borrowed(inner));
    }
    serde_json::from_str(raw).map(Cow::Owned).map_err(|_| "has an invalid escape sequence".to_owned())
}

fn of_length(text: &str, most: usize) -> Result<&str, String> {
    let fits = !text.is_empty() && text.chars().nth(most).is_none();
    fits.then_some(text).ok_or_else(|| format!("must have 1 to {most} characters"))
}

fn printable(text: &str) -> Result<&str, String> {
    let is_plain = !text.chars().any(char::is_control);
    is_plain.then_some(text).ok_or_else(|| "must not contain control characters".to_owned())
}

impl<const LEAST: u64> Field for Count<LEAST> {
    fn read(raw: &str) -> Result<Self, String> {
        let count = digits(raw)?.parse().unwrap_or(u64::MAX);
        if count < LEAST { Err(format!("must be at least {LEAST}")) } else { Ok(Self(count)) }
    }

    fn describe() -> Schema {
        json_schema!({ "type": "integer", "minimum": LEAST })
    }
}

impl Field for Number {
    fn read(raw: &str) -> Result<Self, String> {
        digits(raw)?.parse().map(Self).map_err(|_| format!("must be at most {}", u64::MAX))
    }

    fn describe() -> Schema {
        json_schema!({ "type": "integer", "minimum": 0, "maximum": u64::MAX })
    }
}

impl<const MOST: usize> Field for Text<MOST> {
    fn read(raw: &str) -> Result<Self, String> {
        of_length(&text(raw)?, MOST).map(|text| Self(text.into()))
    }

    fn describe() -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "maxLength": MOST })
    }
}

impl<const MOST: usize> Field for Line<MOST> {
    fn read(raw: &str) -> Result<Self, String> {
        of_length(&text(raw)?, MOST).and_then(printable).map(|text| Self(text.into()))
    }

    fn describe() -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "maxLength": MOST, "pattern": PRINTABLE })
    }
}

impl Field for Id {
    fn read(raw: &str) -> Result<Self, String> {
        let id = text(raw)?;
        if id.is_empty() || id.len() > MAX_ID_BYTES {
            return Err(format!("must have 1 to {MAX_ID_BYTES} bytes"));
        }
        printable(&id).map(|id| Self(id.into()))
    }

    fn describe() -> Schema {
        let description = format!("An id of at most {MAX_ID_BYTES} bytes in UTF-8");
        json_schema!({
            "description": description, "type": "string", "minLength": 1, "maxLength": MAX_ID_BYTES, "pattern": PRINTABLE,
        })
    }
}

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for List<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let list = Vec::deserialize(deserializer)?;
        let fits = (1..=MOST).contains(&list.len());
        if fits { Ok(Self(list)) } else { Err(D::Error::custom(format_args!("must have 1 to {MOST} elements"))) }
    }
}

impl<T: JsonSchema, const MOST: usize> JsonSchema for List<T, MOST> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("ListOf{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "minItems": 1, "maxItems": MOST, "items": generator.subschema_for::<T>() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::declare::data;

    #[derive(Debug, Deserialize, JsonSchema)]
    #[allow(dead_code)]
    struct All {
        count: Count<1>,
        number: Number,
        text: Text<3>,
        line: Line<3>,
        id: Id,
    }

    #[test]
    fn a_field_says_what_it_must_be() {
        let good = r#"{"count":1,"number":0,"text":"a\nb","line":"é\u0041","id":"x"}"#;
        let all = data::<All>(good).unwrap();
        assert_eq!((all.count, &*all.line.0), (Count(1), "éA"));
        for (from, to, problem) in [
            (":1,", ":0,", "data.count must be at least 1"),
            (":1,", ":1.0,", "data.count must be an unsigned integer"),
            (":0,", ":18446744073709551616,", "data.number must be at most 18446744073709551615"),
            ("a\\nb", "abcd", "data.text must have 1 to 3 characters"),
            ("é", "\\u0085", "data.line must not contain control characters"),
            ("é", "\\ud800", "data.line has an invalid escape sequence"),
            ("\"x\"", "\"\"", "data.id must have 1 to 128 bytes"),
            ("\"x\"", "7", "data.id must be text"),
        ] {
            let json = good.replace(from, to);
            assert_ne!(json, good, "{from}");
            assert_eq!(data::<All>(&json).unwrap_err().to_string(), problem);
        }
        let most = data::<All>(&good.replace(":1,", ":99999999999999999999999,")).unwrap();
        assert_eq!(most.count, Count(u64::MAX), "a count that is too large is for the rules");
    }
}
