//! Enums whose variants have a name outside the program, and the lists of those names.
//!
//! One list defines a variant and its name, so no function over them can miss a line that the list has.

use serde::{Deserialize, Serialize};

/// Defines an enum of names: `Register = "item.register",`.
macro_rules! names {
    ($(#[$about:meta])* $type:ident { $($(#[$about_variant:meta])* $variant:ident = $name:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $type { $($(#[$about_variant])* $variant,)+ }

        impl $type {
            /// Every name.
            pub const NAMES: &'static [&'static str] = &[$($name,)+];

            /// The name.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The variant of this name.
            pub fn parse(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

/// Defines an enum of events, each with the struct that is its payload: `Restocked(Restocked) = "item.restocked",`.
macro_rules! events {
    ($(#[$about:meta])* $type:ident {
        $($(#[$about_variant:meta])* $variant:ident($payload:ty) = $name:literal,)+
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
                match self { $(Self::$variant(payload) => serde_json::to_string(payload),)+ }
                    .expect("a struct of text and numbers is always valid JSON")
            }

            /// The event of this type with this payload, or `None` if there is no such type here.
            pub fn decode(name: &str, payload: &[u8]) -> Option<serde_json::Result<Self>> {
                match name {
                    $($name => Some(serde_json::from_slice(payload).map(Self::$variant)),)+
                    _ => None,
                }
            }
        }
    };
}

/// The payload of an event that says all by its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

pub(in crate::domain) use {events, names};

/// How many names `lists` hold together.
pub(super) const fn count(lists: &[&[&str]]) -> usize {
    let mut total = 0;
    let mut list = 0;
    while list < lists.len() {
        total += lists[list].len();
        list += 1;
    }
    total
}

/// The names of `lists` as one list; `N` is their [`count`].
pub(super) const fn joined<const N: usize>(lists: &[&[&'static str]]) -> [&'static str; N] {
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
