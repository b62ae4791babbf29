//! A statement under construction. Values are written as literals that need no escaping, so that several statements
//! travel in one packet.
//!
//! Text of harmless printable ASCII is quoted as it is; everything else becomes a hexadecimal literal. There is no escape
//! sequence anywhere, so no server setting can change where a literal ends.

use std::fmt::Write;

/// The type of an aggregate's id taken out of JSON. The database's own character set may not have all of its characters.
pub const JSON_ID: &str = "VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";

/// SQL text with literals, for statements that are executed together.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Sql(String);

impl Sql {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends trusted text: keywords, names, punctuation.
    pub fn raw(&mut self, text: &'static str) -> &mut Self {
        self.0.push_str(text);
        self
    }

    /// Appends an unsigned number.
    pub fn number(&mut self, value: impl Into<u64>) -> &mut Self {
        let _ = write!(self.0, "{}", value.into());
        self
    }

    /// Appends a signed number.
    pub fn signed(&mut self, value: impl Into<i64>) -> &mut Self {
        let _ = write!(self.0, "{}", value.into());
        self
    }

    /// Appends a decimal number exactly.
    pub fn decimal(&mut self, value: rust_decimal::Decimal) -> &mut Self {
        let _ = write!(self.0, "{value}");
        self
    }

    /// Appends `1` or `0`.
    pub fn boolean(&mut self, value: bool) -> &mut Self {
        self.raw(if value { "1" } else { "0" })
    }

    /// Appends a text literal.
    pub fn text(&mut self, value: &str) -> &mut Self {
        if value.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'\'' && b != b'\\') {
            self.0.push('\'');
            self.0.push_str(value);
            self.0.push('\'');
            self
        } else {
            self.bytes(value.as_bytes())
        }
    }

    /// Appends a text literal, or `NULL`.
    pub fn text_or_null(&mut self, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.text(value),
            None => self.raw("NULL"),
        }
    }

    /// Appends a literal of these bytes.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.0.reserve(value.len() * 2 + 3);
        self.0.push_str("x'");
        for byte in value {
            self.0.push(DIGITS[usize::from(byte >> 4)] as char);
            self.0.push(DIGITS[usize::from(byte & 15)] as char);
        }
        self.0.push('\'');
        self
    }

    /// Appends a text literal of `value` as JSON, whose character set is named since JSON cannot be binary.
    pub fn json(&mut self, value: &impl serde::Serialize) -> &mut Self {
        // Lists of text and numbers cannot fail to be written as JSON.
        self.raw("_utf8mb4 ").text(&serde_json::to_string(value).unwrap_or_default())
    }

    /// Appends what `item` writes for each of `items`, with commas between them.
    pub fn list<T>(&mut self, items: impl IntoIterator<Item = T>, mut item: impl FnMut(&mut Self, T)) -> &mut Self {
        for (index, value) in items.into_iter().enumerate() {
            if index > 0 {
                self.0.push(',');
            }
            item(self, value);
        }
        self
    }

    /// Appends all of `other`.
    pub fn append(&mut self, other: &Sql) -> &mut Self {
        self.0.push_str(&other.0);
        self
    }

    /// Length in bytes, which is close to the packet's.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when nothing was written.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, taken out.
    pub fn into_string(self) -> String {
        self.0
    }
}
