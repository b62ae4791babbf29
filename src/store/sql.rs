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
pub struct Sql {
    text: String,
    tables: Tables,
}

/// Which tables the names of a read model's tables stand for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tables {
    /// Those of these very names.
    #[default]
    Plain,
    /// Those of one build.
    Build(u16),
    /// Those that a build is compared with.
    Check,
}

impl Tables {
    /// The table's name in these.
    pub fn name(self, table: &str) -> String {
        let mut name = table.to_owned();
        self.end(&mut name);
        name
    }

    fn end(self, name: &mut String) {
        match self {
            Self::Plain => {}
            // Writing to a string does not fail.
            Self::Build(build) => drop(write!(name, "_{build}")),
            Self::Check => name.push_str("_check"),
        }
    }
}

impl Sql {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names of tables are those of `tables` from now on.
    #[doc(hidden)]
    pub fn of(&mut self, tables: Tables) -> &mut Self {
        self.tables = tables;
        self
    }

    /// Appends the name of a read model's table: that of the build which is written.
    pub fn table(&mut self, name: &'static str) -> &mut Self {
        self.text.push_str(name);
        self.tables.end(&mut self.text);
        self
    }

    /// Appends trusted text: keywords, names, punctuation.
    pub fn raw(&mut self, text: &'static str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Appends an unsigned number.
    pub fn number(&mut self, value: impl Into<u64>) -> &mut Self {
        let _ = write!(self.text, "{}", value.into());
        self
    }

    /// Appends a signed number.
    pub fn signed(&mut self, value: impl Into<i64>) -> &mut Self {
        let _ = write!(self.text, "{}", value.into());
        self
    }

    /// Appends a decimal number exactly.
    pub fn decimal(&mut self, value: rust_decimal::Decimal) -> &mut Self {
        let _ = write!(self.text, "{value}");
        self
    }

    /// Appends `1` or `0`.
    pub fn boolean(&mut self, value: bool) -> &mut Self {
        self.raw(if value { "1" } else { "0" })
    }

    /// Appends a text literal.
    pub fn text(&mut self, value: &str) -> &mut Self {
        if value.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'\'' && b != b'\\') {
            self.text.push('\'');
            self.text.push_str(value);
            self.text.push('\'');
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
        self.text.reserve(value.len() * 2 + 3);
        self.text.push_str("x'");
        for byte in value {
            self.text.push(DIGITS[usize::from(byte >> 4)] as char);
            self.text.push(DIGITS[usize::from(byte & 15)] as char);
        }
        self.text.push('\'');
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
                self.text.push(',');
            }
            item(self, value);
        }
        self
    }

    /// Appends all of `other`.
    pub fn append(&mut self, other: &Sql) -> &mut Self {
        self.text.push_str(&other.text);
        self
    }

    /// Length in bytes, which is close to the packet's.
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// True when nothing was written.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The text, taken out.
    pub fn into_string(self) -> String {
        self.text
    }
}
