//! Enums whose variants have a name outside the program, declared once: [`names!`](crate::names), [`jobs!`](crate::jobs) and
//! [`events!`](crate::events).
//!
//! One list defines a variant and its name, so no function over them can miss a line that the list has.
//!
//! ```
//! use lockkeeper::domain::fields::Count;
//! use lockkeeper::{jobs, names};
//! use schemars::JsonSchema;
//! use serde::Deserialize;
//!
//! #[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
//! pub struct Restock {
//!     quantity: Count<1>,
//! }
//!
//! jobs! { Job { Restock(Restock) = "item.restock", } }
//! names! { Refusal { Full = "shelf_full", } }
//!
//! assert_eq!(Job::NAMES, ["item.restock"]);
//! assert_eq!(Job::read("item.restock", r#"{"quantity":2}"#), Ok(Job::Restock(Restock { quantity: Count(2) })));
//! let refused = Job::read("item.restock", r#"{"quantity":0}"#).unwrap_err();
//! assert_eq!(refused.to_string(), "data.quantity must be at least 1");
//! assert_eq!(Job::schema("item.restock").unwrap().get("type").unwrap(), "object");
//! assert_eq!(Refusal::Full.as_str(), "shelf_full");
//! ```

#[doc(hidden)]
pub use {schemars, serde_json};

use std::fmt;
use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::error::Category;

use super::Malformed;

/// The data of a job, or the payload of an event, that says all by its type. In a job it may have any fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Empty {}

/// A `T` that was written as an object. What serde derives for a struct would take a list of its fields' values as well.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(transparent)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(OfMap(PhantomData)).map(Object)
    }
}

struct OfMap<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OfMap<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

/// Parses a job's `data` as `T`. What is wrong is named with its path, such as `data.lines[2].quantity`, and never quoted: it
/// may be private, or large. A type of one's own that refuses a value says what it must be, as in `must be at least 1`.
pub fn data<T: DeserializeOwned>(json: &str) -> Result<T, Malformed> {
    // The way to a fault is only followed when there is one: it costs a copy of every key.
    serde_json::from_str::<Object<T>>(json).map(|object| object.0).map_err(|error| {
        let deserializer = &mut serde_json::Deserializer::from_str(json);
        match serde_path_to_error::deserialize::<_, Object<T>>(deserializer) {
            Err(found) if found.inner().classify() == Category::Data => {
                let path = found.path().to_string();
                refused(if path == "." { "data".to_owned() } else { format!("data.{path}") }, found.inner())
            }
            Err(_) | Ok(_) => Malformed::new("data", format!("is not valid JSON: {error}")),
        }
    })
}

/// What serde says of a value, as the end of a sentence that starts with its field.
fn refused(field: String, error: &serde_json::Error) -> Malformed {
    let text = error.to_string();
    let text = text.strip_suffix(&format!(" at line {} column {}", error.line(), error.column())).unwrap_or(&text);
    let named = |start: &str| text.strip_prefix(start)?.strip_suffix('`');
    if let Some(name) = named("missing field `") {
        return Malformed::new(format!("{field}.{name}"), "is missing");
    }
    if let Some(name) = named("duplicate field `") {
        return Malformed::new(format!("{field}.{name}"), "is given twice");
    }
    // What a type of the domain's own says is told as it is.
    let of_serde = ["invalid type: ", "invalid value: ", "invalid length ", "unknown variant `", "unknown field `"];
    if !of_serde.iter().any(|start| text.starts_with(start)) {
        return Malformed::new(field, text);
    }
    let expected = text.rsplit_once("expected ").map_or("another value", |(_, expected)| expected);
    let expected = match expected {
        "a boolean" => "true or false",
        "a string" => "text",
        "a sequence" => "a list",
        "u8" | "u16" | "u32" | "u64" | "usize" => "an unsigned integer within its range",
        "i8" | "i16" | "i32" | "i64" | "isize" => "an integer within its range",
        _ if expected.starts_with("struct ") => "a JSON object",
        other => other,
    };
    Malformed::new(field, format!("must be {expected}"))
}

/// Defines an enum of names, such as the reasons of rejections: `Full = "shelf_full",`.
#[macro_export]
macro_rules! names {
    ($(#[$about:meta])* $type:ident { $($(#[$about_variant:meta])* $variant:ident = $name:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(clippy::enum_variant_names, reason = "a reason is named in full, as it is stored")]
        pub enum $type { $($(#[$about_variant])* $variant,)+ }

        impl $type {
            /// Every name.
            pub const NAMES: &'static [&'static str] = &[$($name,)+];

            /// The name.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

/// Defines an enum of jobs, each with the struct that is its data: `Restock(Restock) = "item.restock",`.
#[macro_export]
macro_rules! jobs {
    ($(#[$about:meta])* $type:ident {
        $($(#[$about_variant:meta])* $variant:ident($data:ty) = $name:literal,)+
    }) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $type { $($(#[$about_variant])* $variant($data),)+ }

        impl $type {
            /// The type of every job.
            pub const NAMES: &'static [&'static str] = &[$($name,)+];

            /// The job of this type with this data.
            pub fn read(name: &str, data: &str) -> Result<Self, $crate::domain::Malformed> {
                match name {
                    $($name => $crate::domain::declare::data(data).map(Self::$variant),)+
                    _ => Err($crate::domain::Malformed::new("type", "is unknown")),
                }
            }

            /// What the data of this type has to be.
            pub fn schema(name: &str) -> Option<$crate::domain::declare::schemars::Schema> {
                match name {
                    $($name => Some($crate::domain::declare::schemars::schema_for!($data)),)+
                    _ => None,
                }
            }
        }
    };
}

/// Defines an enum of events, each with the struct that is its payload: `Restocked(Restocked) = "item.restocked",`. When the schema of
/// a payload has had other versions, the present one is named behind: `Repriced(Repriced) = "item.repriced" @ 2,`.
#[macro_export]
macro_rules! events {
    ($(#[$about:meta])* $type:ident {
        $($(#[$about_variant:meta])* $variant:ident($payload:ty) = $name:literal $(@ $version:literal)?,)+
    }) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $type { $($(#[$about_variant])* $variant($payload),)+ }

        impl $type {
            /// The type of every event.
            pub const NAMES: &'static [&'static str] = &[$($name,)+];

            /// Its type.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$variant(_) => $name,)+ }
            }

            /// Its payload as JSON.
            pub fn payload(&self) -> String {
                match self { $(Self::$variant(payload) => $crate::domain::declare::serde_json::to_string(payload),)+ }
                    .expect("a payload is written by its own rules, which cannot fail for text, numbers, lists and structs")
            }

            /// The newest version of this type's schema, or `None` if there is no such type here.
            pub fn version(name: &str) -> Option<u16> {
                match name {
                    $($name => Some(const { $crate::domain::declare::first_or_one(&[$($version)?]) }),)+
                    _ => None,
                }
            }

            /// Its stored form, in the newest version of its schema.
            #[allow(dead_code, reason = "a domain may write the version before")]
            pub fn encoded(&self) -> $crate::domain::EncodedEvent {
                let event_type = self.name();
                let schema_version = Self::version(event_type).unwrap_or(1);
                $crate::domain::EncodedEvent { event_type, schema_version, payload: self.payload() }
            }

            /// The event of this stored form, in the newest version of its schema.
            pub fn decoded(
                name: &str,
                schema_version: u16,
                payload: &[u8],
            ) -> Result<Self, $crate::domain::Undecodable> {
                let undecodable = |problem: String| $crate::domain::Undecodable {
                    event_type: name.to_owned(),
                    schema_version,
                    problem: problem.chars().take(200).collect(),
                };
                let newest = Self::version(name).ok_or_else(|| undecodable("the type is unknown".to_owned()))?;
                if schema_version != newest {
                    return Err(undecodable(format!("this program reads v{newest}")));
                }
                let event = Self::decode(name, payload).ok_or_else(|| undecodable("the type is unknown".to_owned()))?;
                event.map_err(|error| undecodable(error.to_string()))
            }

            /// What the payload of this type is.
            #[allow(dead_code, reason = "not every program describes its events")]
            pub fn schema(name: &str) -> Option<$crate::domain::declare::schemars::Schema> {
                match name {
                    $($name => Some($crate::domain::declare::schemars::schema_for!($payload)),)+
                    _ => None,
                }
            }

            /// The event of this type with this payload, or `None` if there is no such type here.
            pub fn decode(name: &str, payload: &[u8]) -> Option<$crate::domain::declare::serde_json::Result<Self>> {
                match name {
                    $($name => Some($crate::domain::declare::serde_json::from_slice(payload).map(Self::$variant)),)+
                    _ => None,
                }
            }
        }
    };
}

/// The version that is named, or the first.
#[doc(hidden)]
pub const fn first_or_one(version: &[u16]) -> u16 {
    if version.is_empty() { 1 } else { version[0] }
}

/// How many names `lists` hold together.
pub const fn count(lists: &[&[&str]]) -> usize {
    let mut total = 0;
    let mut list = 0;
    while list < lists.len() {
        total += lists[list].len();
        list += 1;
    }
    total
}

/// The names of `lists` as one list; `N` is their [`count`].
pub const fn joined<const N: usize>(lists: &[&[&'static str]]) -> [&'static str; N] {
    let mut all = [""; N];
    let mut filled = 0;
    let mut list = 0;
    while list < lists.len() {
        let mut name = 0;
        while name < lists[list].len() {
            all[filled] = lists[list][name];
            filled += 1;
            name += 1;
        }
        list += 1;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_in_data_is_named_with_its_path_and_not_quoted() {
        #[derive(Debug, Deserialize)]
        #[allow(dead_code)]
        struct Order {
            lines: Vec<Object<Line>>,
            #[serde(default)]
            kind: Option<Kind>,
            #[serde(default)]
            currency: Option<Currency>,
        }
        #[derive(Debug, Deserialize)]
        #[allow(dead_code)]
        struct Line {
            quantity: u32,
            #[serde(default)]
            is_gift: bool,
        }
        #[derive(Debug, Deserialize)]
        enum Kind {
            Small,
            Large,
        }
        #[derive(Debug)]
        struct Currency;
        impl<'de> Deserialize<'de> for Currency {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?;
                Err(serde::de::Error::custom("unknown here, and expected nowhere"))
            }
        }
        for (json, problem) in [
            ("{}", "data.lines is missing"),
            ("[]", "data must be a JSON object"),
            ("7", "data must be a JSON object"),
            (r#"{"lines":[],"lines":[]}"#, "data.lines is given twice"),
            (r#"{"lines":"secret"}"#, "data.lines must be a list"),
            (r#"{"lines":[[1]]}"#, "data.lines[0] must be a JSON object"),
            (r#"{"lines":[{"quantity":1},{}]}"#, "data.lines[1].quantity is missing"),
            (r#"{"lines":[{"quantity":-1}]}"#, "data.lines[0].quantity must be an unsigned integer within its range"),
            (
                r#"{"lines":[{"quantity":"secret, expected u8"}]}"#,
                "data.lines[0].quantity must be an unsigned integer within its range",
            ),
            (r#"{"lines":[{"quantity":1,"is_gift":"secret"}]}"#, "data.lines[0].is_gift must be true or false"),
            (r#"{"lines":[],"currency":"secret"}"#, "data.currency unknown here, and expected nowhere"),
            (r#"{"lines":[],"kind":"secret"}"#, "data.kind must be `Small` or `Large`"),
        ] {
            let told = data::<Order>(json).expect_err("it is wrong").to_string();
            assert_eq!(told, problem, "{json}");
        }
        for json in ["", "{", r#"{"lines":[]} x"#, r#"{"lines":[}"#] {
            let told = data::<Order>(json).expect_err("it is wrong").to_string();
            assert!(told.starts_with("data is not valid JSON: "), "{told}");
        }
        assert!(data::<Order>(r#"{"lines":[{"quantity":1,"x":[{}]}],"x":{},"x":1}"#).is_ok());
    }
}
