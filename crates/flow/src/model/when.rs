//! Conditions: comparisons of references and literals, joined by `&&`, `||`, `!` and parentheses.

use serde_json::Value;

/// A parsed condition.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Condition {
    Literal(Value),
    Reference(String),
    Not(Box<Self>),
    Both(Box<Self>, Box<Self>),
    Either(Box<Self>, Box<Self>),
    Compare(&'static str, Box<Self>, Box<Self>),
}

/// Nested parentheses and negations at most.
const DEPTH: usize = 32;
const COMPARISONS: [&str; 6] = ["==", "!=", "<=", ">=", "<", ">"];

/// Reads a condition; the error says where it goes wrong.
pub(crate) fn parse(text: &str) -> Result<Condition, String> {
    let mut reader = Reader { rest: text };
    let condition = reader.either(0).map_err(|error| format!("condition `{text}`: {error}"))?;
    if reader.rest.trim().is_empty() {
        return Ok(condition);
    }
    Err(format!("condition `{text}`: did not expect `{}`", reader.rest.trim()))
}

/// The references in a condition; none when it cannot be read.
pub(crate) fn references(text: &str) -> Vec<String> {
    fn collect(condition: &Condition, into: &mut Vec<String>) {
        match condition {
            Condition::Literal(_) => {}
            Condition::Reference(name) => into.push(name.clone()),
            Condition::Not(inner) => collect(inner, into),
            Condition::Both(a, b) | Condition::Either(a, b) | Condition::Compare(_, a, b) => {
                collect(a, into);
                collect(b, into);
            }
        }
    }
    let mut found = Vec::new();
    if let Ok(condition) = parse(text) {
        collect(&condition, &mut found);
    }
    found
}

/// Whether the condition holds; `look` resolves a reference, `None` for one that leads nowhere (it is null).
pub(crate) fn holds(condition: &Condition, look: &dyn Fn(&str) -> Option<Value>) -> bool {
    truth(&value(condition, look))
}

fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64().is_some_and(|number| number != 0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

fn value(condition: &Condition, look: &dyn Fn(&str) -> Option<Value>) -> Value {
    match condition {
        Condition::Literal(value) => value.clone(),
        Condition::Reference(name) => look(name).unwrap_or(Value::Null),
        Condition::Not(inner) => Value::Bool(!truth(&value(inner, look))),
        Condition::Both(a, b) => Value::Bool(truth(&value(a, look)) && truth(&value(b, look))),
        Condition::Either(a, b) => Value::Bool(truth(&value(a, look)) || truth(&value(b, look))),
        Condition::Compare(sign, a, b) => {
            Value::Bool(compare(sign, &value(a, look), &value(b, look)))
        }
    }
}

fn compare(sign: &str, a: &Value, b: &Value) -> bool {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let order = match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            a.as_f64().zip(b.as_f64()).and_then(|(a, b)| a.partial_cmp(&b))
        }
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (a, b) if a == b => Some(Equal),
        _ => None,
    };
    match sign {
        "==" => order == Some(Equal),
        "!=" => order != Some(Equal),
        "<" => order == Some(Less),
        ">" => order == Some(Greater),
        "<=" => matches!(order, Some(Less | Equal)),
        _ => matches!(order, Some(Greater | Equal)),
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn take(&mut self, sign: &str) -> bool {
        let rest = self.rest.trim_start();
        let found = rest.strip_prefix(sign);
        self.rest = found.unwrap_or(rest);
        found.is_some()
    }

    fn either(&mut self, depth: usize) -> Result<Condition, String> {
        let mut left = self.both(depth)?;
        while self.take("||") {
            left = Condition::Either(Box::new(left), Box::new(self.both(depth)?));
        }
        Ok(left)
    }

    fn both(&mut self, depth: usize) -> Result<Condition, String> {
        let mut left = self.comparison(depth)?;
        while self.take("&&") {
            left = Condition::Both(Box::new(left), Box::new(self.comparison(depth)?));
        }
        Ok(left)
    }

    fn comparison(&mut self, depth: usize) -> Result<Condition, String> {
        let left = self.term(depth)?;
        match COMPARISONS.into_iter().find(|sign| self.take(sign)) {
            Some(sign) => Ok(Condition::Compare(sign, Box::new(left), Box::new(self.term(depth)?))),
            None => Ok(left),
        }
    }

    fn term(&mut self, depth: usize) -> Result<Condition, String> {
        if depth > DEPTH {
            return Err("it is nested too deeply".into());
        }
        if self.take("!") {
            return Ok(Condition::Not(Box::new(self.term(depth + 1)?)));
        }
        if self.take("(") {
            let inner = self.either(depth + 1)?;
            if self.take(")") {
                return Ok(inner);
            }
            return Err("expected `)`".into());
        }
        let rest = self.rest.trim_start();
        if let Some(quote) = rest.chars().next().filter(|letter| matches!(letter, '"' | '\'')) {
            let Some(end) = rest[1..].find(quote) else { return Err("a text does not end".into()) };
            self.rest = &rest[end + 2..];
            return Ok(Condition::Literal(Value::String(rest[1..=end].to_owned())));
        }
        let is_word = |letter: char| letter.is_alphanumeric() || "._-".contains(letter);
        let end = rest.find(|letter| !is_word(letter)).unwrap_or(rest.len());
        let word = &rest[..end];
        self.rest = &rest[end..];
        match word {
            "" => Err("expected a reference or a value".into()),
            "true" | "false" | "null" => Ok(Condition::Literal(match word {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                _ => Value::Null,
            })),
            _ => Ok(match serde_json::from_str::<serde_json::Number>(word) {
                Ok(number) => Condition::Literal(Value::Number(number)),
                Err(_) => Condition::Reference(word.to_owned()),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn conditions_compare_references() {
        let look = |name: &str| match name {
            "a.count" => Some(json!(3)),
            "a.kind" => Some(json!("big")),
            _ => None,
        };
        let cases = [
            ("a.count > 2", true),
            ("a.count>=3 && a.kind == 'big'", true),
            ("a.count < 2 || !(a.kind != \"big\")", true),
            ("a.nothing == null", true),
            ("a.nothing", false),
            ("a.count == '3'", false),
            ("true && a.kind", true),
            ("a.count <= -1.5", false),
        ];
        for (text, expected) in cases {
            assert_eq!(holds(&parse(text).unwrap(), &look), expected, "{text}");
        }
        for text in ["", "a.b ==", "(a.b", "a.b c", "'open", "a.b == = 1"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(references("a.count > 2 && b.x == 'y'"), ["a.count", "b.x"]);
        assert!(parse(&"(".repeat(100)).is_err());
    }
}
