//! Rust source as the rules see it: code apart from comments and literals, test code apart from the rest.

/// One file of Rust source.
#[derive(Debug)]
pub(crate) struct RustFile {
    /// Path from the root of the repository.
    pub(crate) path: String,
    /// The file as it is.
    pub(crate) text: String,
    /// The same text with comments and the inside of literals blanked; lines and columns stay.
    pub(crate) code: String,
    /// For each line, whether only tests compile it.
    pub(crate) is_test: Vec<bool>,
}

impl RustFile {
    /// Reads one file's text.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let code = blank(text);
        let is_test = test_lines(path, &code);
        Self { path: path.to_owned(), text: text.to_owned(), code, is_test }
    }

    /// Line numbers, from 1, where `needle` stands in code as whole words.
    pub(crate) fn lines_with(&self, needle: &str) -> Vec<usize> {
        let found = self.code.lines().enumerate().filter(|(_, line)| has_word(line, needle));
        found.map(|(index, _)| index + 1).collect()
    }
}

/// Whether `needle` occurs in `line` without being part of a longer name.
pub(crate) fn has_word(line: &str, needle: &str) -> bool {
    line.match_indices(needle).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + needle.len()..].chars().next();
        let open_start = needle.starts_with(is_name) && before.is_some_and(is_name);
        let open_end = needle.ends_with(is_name) && after.is_some_and(is_name);
        !open_start && !open_end
    })
}

fn is_name(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// Whether a whole file is test code by its place.
pub(crate) fn is_test_file(path: &str) -> bool {
    path.split('/').any(|part| matches!(part, "tests" | "benches" | "tests.rs"))
}

fn test_lines(path: &str, code: &str) -> Vec<bool> {
    let mut marks = vec![is_test_file(path); code.lines().count()];
    for (at, _) in code.match_indices("#[cfg(") {
        let Some(end) = code[at..].find(")]") else { continue };
        if !has_word(&code[at..at + end], "test") || has_word(&code[at..at + end], "not") {
            continue;
        }
        let last = item_end(code, at + end + 2);
        let first_line = line_of(code, at);
        for mark in &mut marks[first_line - 1..line_of(code, last)] {
            *mark = true;
        }
    }
    marks
}

/// Offset of the last byte of the item that begins at `from`: its closing brace or semicolon.
fn item_end(code: &str, from: usize) -> usize {
    let mut depth = 0_usize;
    for (offset, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth <= 1 => return offset,
            b'}' => depth -= 1,
            b';' if depth == 0 => return offset,
            _ => {}
        }
    }
    code.len().saturating_sub(1)
}

/// Line number, from 1, of a byte offset.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    text[..offset.min(text.len())].matches('\n').count() + 1
}

fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let name_before =
            at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
        let length = if rest.starts_with(b"//") {
            rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())
        } else if rest.starts_with(b"/*") {
            block_comment(rest)
        } else if let Some(length) = raw_string(rest).filter(|_| !name_before) {
            length
        } else if rest[0] == b'"' {
            quoted(rest, b'"')
        } else if let Some(length) = character(rest) {
            length
        } else {
            out.push(rest[0]);
            at += 1;
            continue;
        };
        out.extend(rest[..length].iter().map(|byte| if *byte == b'\n' { b'\n' } else { b' ' }));
        at += length;
    }
    String::from_utf8(out).expect("only whole literals and comments are blanked")
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

fn raw_string(rest: &[u8]) -> Option<usize> {
    let prefix = [b"br".as_slice(), b"cr", b"r"].into_iter().find(|word| rest.starts_with(word))?;
    let hashes = rest[prefix.len()..].iter().take_while(|byte| **byte == b'#').count();
    let open = prefix.len() + hashes;
    if rest.get(open) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.resize(hashes + 1, b'#');
    let body = &rest[open + 1..];
    let end = body.windows(close.len()).position(|window| window == close);
    Some(end.map_or(rest.len(), |end| open + 1 + end + close.len()))
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Length of a character literal; `None` for a lifetime or anything else.
fn character(rest: &[u8]) -> Option<usize> {
    if rest[0] != b'\'' {
        return None;
    }
    if rest.get(1) == Some(&b'\\') {
        return Some(quoted(rest, b'\''));
    }
    let text = std::str::from_utf8(&rest[1..rest.len().min(6)]);
    let first = match text {
        Ok(text) => text.chars().next()?,
        Err(error) => {
            let valid = std::str::from_utf8(&rest[1..=error.valid_up_to()]).ok()?;
            valid.chars().next()?
        }
    };
    let end = 1 + first.len_utf8();
    (rest.get(end) == Some(&b'\'')).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_comments_are_blanked_and_lines_stay() {
        let text = "let a = \"std::fs\"; // std::env\nlet b = r#\"x \" std::fs\"#;\n/* a /* b */ c */ let c = '\"';";
        let file = RustFile::new("crates/x/src/a.rs", text);
        assert!(file.lines_with("std::fs").is_empty());
        assert!(file.lines_with("std::env").is_empty());
        assert_eq!(file.lines_with("let"), [1, 2, 3]);
        assert_eq!(file.code.len(), text.len());
    }

    #[test]
    fn a_lifetime_is_no_literal() {
        let file = RustFile::new("a.rs", "fn a<'a>(x: &'a str) -> &'a str { std::fs(x) }");
        assert_eq!(file.lines_with("std::fs"), [1]);
    }

    #[test]
    fn test_code_is_told_apart() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n";
        let file = RustFile::new("crates/x/src/a.rs", text);
        assert_eq!(file.is_test, [false, true, true, true, true, false]);
        let whole = RustFile::new("crates/x/tests/it.rs", "fn a() {}\n");
        assert_eq!(whole.is_test, [true]);
    }

    #[test]
    fn a_longer_name_is_another_name() {
        assert!(has_word("x.Sqlite()", "Sqlite"));
        assert!(!has_word("MySqlite", "Sqlite"));
        assert!(!has_word("Sqlites", "Sqlite"));
    }
}
