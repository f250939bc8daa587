//! Packets of Socket.IO 4 over engine.io 4, as far as listeners to events need them.

use serde_json::{Value, json};

/// A ping of the server.
pub(super) const PING: &str = "2";
/// Longest packet that clients are told they may send.
pub(super) const LARGEST: usize = 1_000_000;

/// What a client says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Packet {
    /// It wants to hear the events of the main namespace, by this token.
    Connect(Option<String>),
    /// It wants another namespace, which there is none of.
    Elsewhere(String),
    /// The answer to a ping.
    Pong,
    /// It leaves.
    Leave,
    /// An event or an answer to one; nobody here listens to it.
    Said,
}

impl Packet {
    /// Reads a packet; `None` = no client of this protocol says so.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_at_checked(1)?;
        match kind {
            "1" => Some(Self::Leave),
            "3" => Some(Self::Pong),
            "4" => Self::message(rest),
            // A ping of the client's, as of older protocols, and the filler.
            "2" | "6" => Some(Self::Said),
            _ => None,
        }
    }

    fn message(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_at_checked(1)?;
        match kind {
            "0" => {
                let (namespace, data) = match rest.strip_prefix('/') {
                    Some(named) => named.split_once(',').unwrap_or((named, "")),
                    None => ("", rest),
                };
                if !namespace.is_empty() {
                    return Some(Self::Elsewhere(format!("/{namespace}")));
                }
                if data.is_empty() {
                    return Some(Self::Connect(None));
                }
                let data: Value = serde_json::from_str(data).ok()?;
                let token = data.get("token").and_then(Value::as_str);
                Some(Self::Connect(token.filter(|token| !token.is_empty()).map(str::to_owned)))
            }
            "1" => Some(Self::Leave),
            "2" | "3" | "5" | "6" => Some(Self::Said),
            _ => None,
        }
    }
}

/// The first packet of the server.
pub(super) fn open(sid: &str, ping_millis: u64, pong_millis: u64) -> String {
    let body = json!({
        "sid": sid,
        "upgrades": [],
        "pingInterval": ping_millis,
        "pingTimeout": pong_millis,
        "maxPayload": LARGEST,
    });
    format!("0{body}")
}

/// The client is let in.
pub(super) fn welcome(sid: &str) -> String {
    format!("40{}", json!({ "sid": sid }))
}

/// The client is not let in; `namespace` is empty for the main one.
pub(super) fn refusal(namespace: &str, message: &str) -> String {
    let comma = if namespace.is_empty() { "" } else { "," };
    format!("44{namespace}{comma}{}", json!({ "message": message }))
}

/// An event with its one argument.
pub(super) fn event(name: &str, argument: &impl serde::Serialize) -> String {
    let body = serde_json::to_string(&(name, argument))
        .expect("what is sent is made of types that JSON can hold");
    format!("42{body}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_read_and_others_are_not() {
        let token = |text: &str| Some(Packet::Connect(Some(text.to_owned())));
        for (text, packet) in [
            ("40", Some(Packet::Connect(None))),
            ("40{}", Some(Packet::Connect(None))),
            (r#"40{"token":"k"}"#, token("k")),
            (r#"40{"token":7}"#, Some(Packet::Connect(None))),
            (r#"40{"token":""}"#, Some(Packet::Connect(None))),
            (r#"40/,{"token":"k"}"#, token("k")),
            (r#"40/admin,{"token":"k"}"#, Some(Packet::Elsewhere("/admin".to_owned()))),
            ("40/admin", Some(Packet::Elsewhere("/admin".to_owned()))),
            ("40{", None),
            ("3", Some(Packet::Pong)),
            ("1", Some(Packet::Leave)),
            ("41", Some(Packet::Leave)),
            (r#"42["x"]"#, Some(Packet::Said)),
            ("2probe", Some(Packet::Said)),
            ("", None),
            ("4", None),
            ("49", None),
            ("5", None),
            ("ä", None),
        ] {
            assert_eq!(Packet::parse(text), packet, "{text:?}");
        }
    }

    #[test]
    fn packets_of_the_server_read_as_the_contract_shows() {
        assert_eq!(
            open("e1", 25_000, 20_000),
            r#"0{"maxPayload":1000000,"pingInterval":25000,"pingTimeout":20000,"sid":"e1","upgrades":[]}"#
        );
        assert_eq!(welcome("s1"), r#"40{"sid":"s1"}"#);
        assert_eq!(refusal("", "Unauthorized"), r#"44{"message":"Unauthorized"}"#);
        assert_eq!(refusal("/a", "no"), r#"44/a,{"message":"no"}"#);
        assert_eq!(event("e", &7), r#"42["e",7]"#);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in ".{0,60}") {
            let _ = Packet::parse(&text);
            let _ = Packet::parse(&format!("40{text}"));
        }
    }
}
