//! An entry's fields, of which nothing has been checked.

use crate::domain::{MAX_ID_BYTES, Malformed};

/// Access to an entry's fields by name. A known field that is given twice is malformed: nobody can tell which one counts.
pub(super) struct Fields<'a>(pub &'a [(Vec<u8>, Vec<u8>)]);

impl<'a> Fields<'a> {
    pub fn first(&self, name: &str) -> Option<&'a [u8]> {
        self.0.iter().find(|(given, _)| given == name.as_bytes()).map(|(_, value)| value.as_slice())
    }

    pub fn one(&self, name: &str) -> Result<Option<&'a [u8]>, Malformed> {
        let mut values = self.0.iter().filter(|(given, _)| given == name.as_bytes());
        let first = values.next().map(|(_, value)| value.as_slice());
        if values.next().is_some() {
            return Err(Malformed::new(name, "is given twice"));
        }
        Ok(first)
    }

    pub fn required(&self, name: &str) -> Result<&'a [u8], Malformed> {
        self.one(name)?.ok_or_else(|| Malformed::new(name, "is missing"))
    }

    /// An optional text; an empty one counts as absent, as producers in many languages send it for "none".
    pub fn text(&self, name: &str, max_bytes: usize) -> Result<Option<&'a str>, Malformed> {
        match self.one(name)? {
            None | Some([]) => Ok(None),
            Some(value) => text_of(name, value, max_bytes).map(Some),
        }
    }

    pub fn number(&self, name: &str) -> Result<Option<u64>, Malformed> {
        let Some(text) = self.text(name, 20)? else { return Ok(None) };
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        let number = text.parse().ok().filter(|_| digits);
        number.map(Some).ok_or_else(|| Malformed::new(name, "must be an unsigned whole number"))
    }

    pub fn reply(&self) -> Result<Option<String>, Malformed> {
        let Some(stream) = self.text("reply", 2 * MAX_ID_BYTES)? else { return Ok(None) };
        if !stream.starts_with("reply:") {
            return Err(Malformed::new("reply", "must name a stream that begins with `reply:`"));
        }
        Ok(Some(stream.to_owned()))
    }
}

pub(super) fn text_of<'a>(name: &str, value: &'a [u8], max_bytes: usize) -> Result<&'a str, Malformed> {
    if value.len() > max_bytes {
        return Err(Malformed::new(name, format!("has {} bytes, more than {max_bytes}", value.len())));
    }
    std::str::from_utf8(value).map_err(|_| Malformed::new(name, "is not UTF-8"))
}
