//! Every key of the default configuration says what it means.

use super::Finding;

/// Keys and sections without a comment right above them.
pub(crate) fn documented(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut above = "";
    let mut inside_value = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if inside_value {
            inside_value = !line.starts_with(']');
        } else if let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
            if !above.starts_with('#') {
                let message = format!("key `{}` has no comment above it", key.trim());
                findings.push(Finding::new(path, index + 1, message));
            }
            inside_value = value.trim_start().starts_with('[') && !value.contains(']');
        }
        above = line;
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_without_a_comment_is_named() {
        let text = "[server]\n# Where it listens.\nlisten = \"x\"\nport = 1\n# A list.\nlist = [\n  \"a=b\",\n]\n";
        let findings = documented("c.toml", text);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].to_string(), "c.toml:4: key `port` has no comment above it");
    }
}
