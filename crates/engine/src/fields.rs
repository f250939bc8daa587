//! Texts one after the other, each behind its length (`5:hello,`): what is kept in notes and said to drivers.

/// Puts fields one behind the other.
pub(crate) fn join<F: AsRef<str>>(fields: impl IntoIterator<Item = F>) -> String {
    let mut all = String::new();
    for field in fields {
        let field = field.as_ref();
        all.push_str(&field.len().to_string());
        all.push(':');
        all.push_str(field);
        all.push(',');
    }
    all
}

/// The first field and what follows it; `None` = it is not complete, or no field.
pub(crate) fn first(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = bytes.iter().take(10).position(|byte| *byte == b':')?;
    let length: usize = std::str::from_utf8(&bytes[..colon]).ok()?.parse().ok()?;
    let (field, rest) = bytes[colon + 1..].split_at_checked(length)?;
    Some((field, rest.strip_prefix(b",")?))
}

/// All fields of a whole text; `None` = it is none, or not UTF-8.
pub(crate) fn split(mut bytes: &[u8]) -> Option<Vec<String>> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let (field, rest) = first(bytes)?;
        all.push(String::from_utf8(field.to_vec()).ok()?);
        bytes = rest;
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_and_broken_ones_do_not() {
        let fields = ["", "a:b,", "ü\n", "3:x"];
        assert_eq!(split(join(fields).as_bytes()).unwrap(), fields);
        assert_eq!(join(["hello"]), "5:hello,");
        for broken in
            ["5:hell", "5:hello", "5:hello;", ":", "x:", "99999999999:", "-1:,", "2:\u{e9}"]
        {
            assert_eq!(split(broken.as_bytes()), None, "{broken}");
        }
        assert_eq!(split(b"1:\xff,"), None);
    }
}
