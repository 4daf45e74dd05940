//! The words of a condition, each with the character where it begins.

use super::Mistake;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A name: of a path, a function, or `and`, `or`, `not`, `true`, `false`, `nil`.
    Name(String),
    Text(String),
    Int(i64),
    Double(f64),
    /// `==`, `(`, `.` and the like.
    Sign(&'static str),
    End,
}

impl Token {
    /// As users know it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Name(name) => format!("`{name}`"),
            Self::Text(text) => format!("the text \"{text}\""),
            Self::Int(number) => format!("`{number}`"),
            Self::Double(number) => format!("`{number}`"),
            Self::Sign(sign) => format!("`{sign}`"),
            Self::End => "the end".to_owned(),
        }
    }
}

/// Longer ones first.
const SIGNS: &[&str] = &[
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "(", ")", "[", "]", ",", ".", "=", "!", "+", "*",
    "/", "-", "{", "}", ":",
];

/// Cuts a condition into words; the last is [`Token::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, Mistake> {
    let characters: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(&character) = characters.get(at) {
        let rest = characters.get(at..).unwrap_or_default();
        let (token, length) = match character {
            _ if character.is_whitespace() => {
                at += 1;
                continue;
            }
            '"' => quoted(rest, at)?,
            '\'' => {
                return Err(Mistake::new(
                    at,
                    "a text is written in double quotes, not single ones",
                ));
            }
            '0'..='9' => number(rest, at)?,
            '-' if rest.get(1).is_some_and(char::is_ascii_digit) => number(rest, at)?,
            'a'..='z' | 'A'..='Z' | '_' => {
                let name: String = rest
                    .iter()
                    .take_while(|next| next.is_alphanumeric() || **next == '_')
                    .collect();
                let length = name.chars().count();
                (Token::Name(name), length)
            }
            _ => {
                let ahead: String = rest.iter().take(2).collect();
                let sign = SIGNS.iter().find(|sign| ahead.starts_with(**sign));
                let Some(sign) = sign else {
                    return Err(Mistake::new(at, format!("`{character}` means nothing here")));
                };
                (Token::Sign(sign), sign.len())
            }
        };
        found.push((at, token));
        at += length;
    }
    found.push((at, Token::End));
    Ok(found)
}

/// A text in double quotes, with the escapes of Go.
fn quoted(rest: &[char], at: usize) -> Result<(Token, usize), Mistake> {
    let mut text = String::new();
    let mut characters = rest.iter().enumerate().skip(1);
    while let Some((offset, character)) = characters.next() {
        match character {
            '"' => return Ok((Token::Text(text), offset + 1)),
            '\\' => {
                let Some((_, escaped)) = characters.next() else { break };
                text.push(match escaped {
                    '"' => '"',
                    '\\' => '\\',
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    other => {
                        let message = format!(
                            "`\\{other}` is not an escape; a backslash is written `\\\\`, so write \
                             `\\\\{other}`"
                        );
                        return Err(Mistake::new(at + offset, message));
                    }
                });
            }
            other => text.push(*other),
        }
    }
    Err(Mistake::new(at, "this text has no closing quote"))
}

fn number(rest: &[char], at: usize) -> Result<(Token, usize), Mistake> {
    let mut word = String::new();
    for (offset, character) in rest.iter().enumerate() {
        let sign = *character == '-' && (offset == 0 || word.ends_with(['e', 'E']))
            || *character == '+' && word.ends_with(['e', 'E']);
        if !(sign || character.is_ascii_alphanumeric() || *character == '.') {
            break;
        }
        word.push(*character);
    }
    let length = word.len();
    if let Ok(number) = word.parse::<i64>() {
        return Ok((Token::Int(number), length));
    }
    match word.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok((Token::Double(number), length)),
        _ => Err(Mistake::new(at, format!("`{word}` is not a number"))),
    }
}
