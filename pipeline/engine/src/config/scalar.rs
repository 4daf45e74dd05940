//! The type of a scalar, decided where it is wanted: the core schema of YAML 1.2.
//!
//! Two things are as in the Collector's Go parser: `1_000` is a number, and `yes` is a text. One is
//! stricter: `0123`, which is 123 to YAML 1.2 and 83 to YAML 1.1, is not taken for a number.

use super::node::Scalar;

/// A scalar of the type that it has by itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Typed<'a> {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(&'a str),
}

impl Scalar {
    /// The type that the scalar has where any is welcome.
    pub(crate) fn typed(&self) -> Typed<'_> {
        if self.is_null() {
            return Typed::Null;
        }
        if let Some(truth) = self.as_bool() {
            return Typed::Bool(truth);
        }
        if let Some(number) = self.as_integer() {
            if let Ok(number) = u64::try_from(number) {
                return Typed::Unsigned(number);
            }
            if let Ok(number) = i64::try_from(number) {
                return Typed::Signed(number);
            }
        }
        match self.as_float() {
            Some(number) => Typed::Float(number),
            None => Typed::Text(&self.text),
        }
    }

    pub(crate) fn as_bool(&self) -> Option<bool> {
        match self.text.as_str() {
            "true" | "True" | "TRUE" if self.plain => Some(true),
            "false" | "False" | "FALSE" if self.plain => Some(false),
            _ => None,
        }
    }

    pub(crate) fn as_integer(&self) -> Option<i128> {
        if !self.plain {
            return None;
        }
        let (negative, digits) = match self.text.as_bytes().first() {
            Some(b'-') => (true, &self.text[1..]),
            Some(b'+') => (false, &self.text[1..]),
            _ => (false, self.text.as_str()),
        };
        let (radix, digits) = match digits.get(..2) {
            Some("0x" | "0X") => (16, &digits[2..]),
            Some("0o" | "0O") => (8, &digits[2..]),
            Some("0b" | "0B") => (2, &digits[2..]),
            _ => (10, digits),
        };
        if radix == 10 && digits.len() > 1 && digits.starts_with('0') {
            return None;
        }
        let starts_well = digits.starts_with(|c: char| c.is_digit(radix));
        if !starts_well || digits.len() > 80 {
            return None;
        }
        let digits = digits.replace('_', "");
        // A sign in the middle is no digit, though the standard library would take a leading one.
        let number = i128::from_str_radix(&digits, radix).ok()?;
        Some(if negative { -number } else { number })
    }

    pub(crate) fn as_float(&self) -> Option<f64> {
        if !self.plain {
            return None;
        }
        match self.text.as_str() {
            ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Some(f64::INFINITY),
            "-.inf" | "-.Inf" | "-.INF" => return Some(f64::NEG_INFINITY),
            ".nan" | ".NaN" | ".NAN" => return Some(f64::NAN),
            _ => {}
        }
        if let Some(number) = self.as_integer() {
            return Some(number as f64);
        }
        let unsigned = self.text.trim_start_matches(['-', '+']);
        let (whole, rest) = unsigned.split_at(unsigned.find(['.', 'e', 'E'])?);
        let octal = whole.len() > 1 && whole.starts_with('0') && !rest.starts_with('.');
        let looks_right = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
            && unsigned.bytes().any(|byte| byte.is_ascii_digit())
            && unsigned.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
        if octal || !looks_right || self.text.len() > unsigned.len() + 1 {
            return None;
        }
        self.text.parse().ok().filter(|number: &f64| number.is_finite())
    }

    /// What the text should have been where a number is wanted, if that can be said.
    pub(crate) fn number_hint(&self) -> &'static str {
        let digits = !self.text.is_empty() && self.text.bytes().all(|byte| byte.is_ascii_digit());
        match (digits, self.plain) {
            (true, true) if self.text.starts_with('0') => {
                "; without the leading zero it is decimal, with `0o` octal"
            }
            (true, false) => "; write it without quotes",
            _ => "",
        }
    }
}
