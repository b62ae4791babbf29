//! Money as the database keeps it, `DECIMAL(10,3)`, without a floating point number anywhere.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use lockkeeper::projection::Value;
use rust_decimal::Decimal;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// A sum of money, not negative, with three decimals. In JSON it is a string: `"7.500"`.
///
/// Arithmetic and parsing saturate far above [`Money::MAX`], so one look at the result with [`Money::fits`] also covers
/// everything it was made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money {
    thousandths: u64,
}

/// The digits after the decimal point.
const DECIMALS: usize = 3;

impl Money {
    /// The most that a column of type `DECIMAL(10,3)` holds.
    pub const MAX: Self = Self { thousandths: 9_999_999_999 };

    /// This many thousandths.
    pub const fn from_thousandths(thousandths: u64) -> Self {
        Self { thousandths }
    }

    /// True when a column can hold it.
    pub fn fits(self) -> bool {
        self <= Self::MAX
    }

    /// The sum of both.
    pub fn plus(self, other: Self) -> Self {
        Self { thousandths: self.thousandths.saturating_add(other.thousandths) }
    }

    /// The price of `quantity` pieces.
    pub fn times(self, quantity: u32) -> Self {
        Self { thousandths: self.thousandths.saturating_mul(u64::from(quantity)) }
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.thousandths / 1000, self.thousandths % 1000)
    }
}

impl From<Money> for Value<'_> {
    fn from(money: Money) -> Self {
        Self::Decimal(money.into())
    }
}

impl From<Money> for Decimal {
    fn from(money: Money) -> Self {
        Decimal::from_i128_with_scale(i128::from(money.thousandths), DECIMALS as u32)
    }
}

/// Why a text is not [`Money`], as the end of a sentence that starts with the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotMoney {
    /// Not of the form `7` or `7.5`.
    #[error("must be a decimal number like 7 or \"7.500\"")]
    NotDecimal,
    /// More than three digits after the point, even if they are zeros.
    #[error("must have at most three decimals")]
    TooPrecise,
    /// A number with a minus sign.
    #[error("must not be negative")]
    Negative,
}

impl FromStr for Money {
    type Err = NotMoney;

    fn from_str(text: &str) -> Result<Self, NotMoney> {
        if let Some(rest) = text.strip_prefix('-') {
            return Err(if split(rest).is_some() { NotMoney::Negative } else { NotMoney::NotDecimal });
        }
        let (whole, decimals) = split(text).ok_or(NotMoney::NotDecimal)?;
        if decimals.len() > DECIMALS {
            return Err(NotMoney::TooPrecise);
        }
        let padding = std::iter::repeat_n(b'0', DECIMALS - decimals.len());
        let thousandths = whole
            .bytes()
            .chain(decimals.bytes())
            .chain(padding)
            .fold(0_u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
        Ok(Self { thousandths })
    }
}

/// The digits before and after the decimal point, if `text` is digits with at most one point between them.
fn split(text: &str) -> Option<(&str, &str)> {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    match text.split_once('.') {
        Some((whole, decimals)) => (is_number(whole) && is_number(decimals)).then_some((whole, decimals)),
        None => is_number(text).then_some((text, "")),
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let money: Self = text.parse().map_err(|problem| D::Error::custom(format_args!("money {problem}")))?;
        if money.fits() { Ok(money) } else { Err(D::Error::custom("money is out of range")) }
    }
}

/// Money as a job may write it, as text or as a number; it may be more than fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price(pub Money);

impl<'de> Deserialize<'de> for Price {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The raw text has every digit; a number of serde's has 53 bits of them.
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        let text = match raw.starts_with('"') {
            true => serde_json::from_str(raw).map_err(|_| D::Error::custom("has an invalid escape sequence"))?,
            false => Cow::Borrowed(raw),
        };
        text.parse().map(Self).map_err(D::Error::custom)
    }
}

impl JsonSchema for Price {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Price".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Money with at most three decimals: as text, or as a number without an exponent",
            "anyOf": [
                { "type": "string", "pattern": r"^[0-9]+(\.[0-9]{1,3})?$" },
                { "type": "number", "minimum": 0, "multipleOf": 0.001 },
            ],
        })
    }
}

impl JsonSchema for Money {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Money".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "Money with three decimals", "type": "string", "pattern": r"^[0-9]{1,7}\.[0-9]{3}$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(text: &str) -> Result<String, NotMoney> {
        text.parse::<Money>().map(|money| money.to_string())
    }

    #[test]
    fn keeps_three_decimals_exactly() {
        for (text, expected) in [
            ("0", "0.000"),
            ("7", "7.000"),
            ("7.5", "7.500"),
            ("7.500", "7.500"),
            ("0.001", "0.001"),
            ("007.05", "7.050"),
            ("9999999.999", "9999999.999"),
        ] {
            assert_eq!(parsed(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn says_what_is_not_money() {
        for text in
            ["", ".", ".5", "7.", "7.5.0", "1e2", "+7", " 7", "7 ", "1,000", "NaN", "--1", "-", "-x", "٣", "7.٣"]
        {
            assert_eq!(parsed(text), Err(NotMoney::NotDecimal), "{text}");
        }
        for text in ["7.1234", "7.5000", "0.00000000000000000000000000000000001"] {
            assert_eq!(parsed(text), Err(NotMoney::TooPrecise), "{text}");
        }
        for text in ["-7", "-0", "-0.5", "-1.2345"] {
            assert_eq!(parsed(text), Err(NotMoney::Negative), "{text}");
        }
    }

    #[test]
    fn what_no_column_holds_does_not_fit_however_large() {
        assert!("9999999.999".parse::<Money>().unwrap().fits());
        for text in ["10000000", "10000000.000", &"9".repeat(19), &"9".repeat(5000), &format!("1{}", "0".repeat(300))] {
            assert!(!text.parse::<Money>().unwrap().fits(), "{text}");
        }
        assert!(!Money::MAX.times(u32::MAX).fits());
        assert!(!Money::MAX.plus(Money::from_thousandths(1)).fits());
        assert!(!Money::from_thousandths(u64::MAX).plus(Money::MAX).fits());
    }

    #[test]
    fn stored_money_is_a_string_within_range() {
        assert!(serde_json::from_str::<Money>("\"7.5\"").is_ok());
        for json in ["7.5", "7", "\"-1\"", "\"10000000\"", "null", "\"7.1234\""] {
            assert!(serde_json::from_str::<Money>(json).is_err(), "{json}");
        }
    }

    proptest! {
        #[test]
        fn survives_json_and_becomes_the_same_decimal(thousandths in 0..=9_999_999_999_u64) {
            let money = Money::from_thousandths(thousandths);
            let json = serde_json::to_string(&money).unwrap();
            prop_assert_eq!(serde_json::from_str::<Money>(&json).unwrap(), money);
            prop_assert_eq!(Decimal::from(money).to_string(), money.to_string());
        }

        #[test]
        fn parsing_never_panics(text in "\\PC*") {
            let _ = text.parse::<Money>();
        }
    }
}
