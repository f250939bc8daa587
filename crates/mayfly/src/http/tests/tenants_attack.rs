//! Two tenants attack each other through every endpoint of the API's description.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::Edge;

/// Longest wait for a refusal.
const PATIENCE: Duration = Duration::from_secs(3);

/// What an attacker knows of the other tenant.
struct Victim {
    key: String,
    /// What stands for each variable part of a path.
    known: BTreeMap<&'static str, String>,
    sandbox: String,
}

impl Victim {
    async fn new(edge: &Edge, name: &'static str) -> Self {
        let key = edge.tenant(name, &["admin"]).await;
        let call = async |method: &str, path: &str, body: &str| {
            let reply = edge.call_as(&key, method, path, body).await;
            assert!(reply.status.is_success(), "{method} {path}: {reply:?}");
            if reply.body.is_empty() { Value::Null } else { reply.json() }
        };
        let made =
            call("POST", "/api/sandbox", &json!({ "name": format!("{name}-box") }).to_string())
                .await;
        let sandbox = made["id"].as_str().unwrap().to_owned();
        let (api, toolbox) = (format!("/api/sandbox/{sandbox}"), format!("/toolbox/{sandbox}"));
        call("POST", &format!("{toolbox}/process/session"), r#"{"sessionId":"s1"}"#).await;
        let run =
            call("POST", &format!("{toolbox}/process/session/s1/exec"), r#"{"command":"echo x"}"#)
                .await;
        call("POST", &format!("{toolbox}/process/pty"), r#"{"id":"p1"}"#).await;
        let context = call("POST", &format!("{toolbox}/process/interpreter/context"), "{}").await;
        let ssh = call("POST", &format!("{api}/ssh-access"), "").await;
        let link =
            call("GET", &format!("{api}/ports/3000/signed-preview-url?expiresInSeconds=600"), "")
                .await;
        let volume =
            call("POST", "/api/volumes", &json!({ "name": format!("{name}-data") }).to_string())
                .await;
        let own = call("GET", "/api/organizations", "").await;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let known = BTreeMap::from([
            ("sandbox", sandbox.clone()),
            ("name", format!("{name}-key")),
            ("volume", text(&volume["id"])),
            ("organization", text(&own[0]["id"])),
            ("port", "3000".to_owned()),
            ("token", text(&link["token"])),
            ("ssh", text(&ssh["token"])),
            ("timer", "autostop".to_owned()),
            ("minutes", "1".to_owned()),
            ("session", "s1".to_owned()),
            ("command", text(&run["cmdId"])),
            ("terminal", "p1".to_owned()),
            ("process", "1".to_owned()),
            ("context", text(&context["id"])),
        ]);
        Self { key, known, sandbox }
    }

    /// Everything of it that can be looked at, as it is now.
    async fn state(&self, edge: &Edge) -> BTreeMap<String, Value> {
        let (api, toolbox) =
            (format!("/api/sandbox/{}", self.sandbox), format!("/toolbox/{}", self.sandbox));
        let mut state = BTreeMap::new();
        for path in [
            "/api/sandbox".to_owned(),
            api.clone(),
            format!("{api}/signing-key"),
            "/api/api-keys".to_owned(),
            "/api/organizations".to_owned(),
            "/api/snapshots".to_owned(),
            "/api/volumes?includeDeleted=true".to_owned(),
            format!("{api}/ssh-access/validate?token={}", self.known["ssh"])
                .replace(&api, "/api/sandbox"),
            format!("{toolbox}/process/session"),
            format!("{toolbox}/process/session/s1"),
            format!("{toolbox}/process/pty"),
            format!("{toolbox}/process/interpreter/context"),
            format!("{toolbox}/files?path=/"),
        ] {
            let seen = edge.call_as(&self.key, "GET", &path, "").await;
            let mut body: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
            forget_time(&mut body);
            state.insert(format!("{path} {}", seen.status), body);
        }
        state
    }
}

/// Looking is use, which the time of the last use shows.
fn forget_time(body: &mut Value) {
    match body {
        Value::Object(fields) => {
            fields.retain(|name, _| {
                name != "lastActivityAt" && name != "timestamp" && name != "lastUsedAt"
            });
            fields.values_mut().for_each(forget_time);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_time),
        _ => {}
    }
}

/// The path with the victim's names in it; `None` where it has none.
fn aimed(path: &str, known: &BTreeMap<&'static str, String>) -> Option<String> {
    let mut any = false;
    let parts: Vec<String> = path
        .split('/')
        .map(|part| match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
            None => part.to_owned(),
            Some(name) => {
                any = true;
                known
                    .get(name)
                    .unwrap_or_else(|| panic!("nothing is known for {{{name}}} in {path}"))
                    .clone()
            }
        })
        .collect();
    any.then(|| parts.join("/"))
}

/// A body that every endpoint takes, as far as it looks before it finds that the sandbox is another's.
const BODY: &str = r#"{"command":"echo x","code":"1","language":"python","labels":{},"sessionId":"s1","id":"p1","cols":9,
    "rows":9,"data":"x","path":"a","paths":["a"],"files":["a"],"pattern":"a","newValue":"b","url":"http://x.test/r",
    "name":"n","message":"m","author":"a","email":"a@x.test","branch":"b","mode":"soft","key":"k","value":"v",
    "username":"u","password":"p","languageId":"python","pathToProject":"/","uri":"file:///a","query":"a",
    "position":{"line":0,"character":0},"cpu":1,"networkBlockAll":true}"#;
const QUERY: &str = "?path=/a&owner=root&group=root&mode=0644&source=/a&destination=/b&pattern=a&key=k&follow=true\
    &languageId=python&pathToProject=/&uri=file:///a&query=a&force=true&expiresInSeconds=60&id=p9";

/// One request at something of the victim's.
struct Attack {
    method: String,
    /// As the description has it.
    path: String,
    /// What follows the path.
    query: String,
    body: &'static str,
    /// Where a refusal may come before anybody looks whose it is.
    blind: bool,
}

/// One for every operation that names something, those that end things last.
fn attacks(document: &Value, victim: &Victim) -> Vec<Attack> {
    let mut attacks = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        // What a snapshot of all is called is no secret; own ones there are none yet.
        if path.starts_with("/api/snapshots/") || aimed(path, &victim.known).is_none() {
            continue;
        }
        for (method, about) in methods.as_object().unwrap() {
            let upload = about["requestBody"]["content"].get("multipart/form-data").is_some();
            let query = if path.contains("ssh-access") {
                format!("?token={}", victim.known["ssh"])
            } else {
                QUERY.to_owned()
            };
            attacks.push(Attack {
                method: method.to_uppercase(),
                path: path.clone(),
                query,
                body: if method == "get" || upload { "" } else { BODY },
                blind: upload || method == "get",
            });
        }
    }
    attacks.sort_by_key(|attack| (attack.method == "DELETE", attack.path.starts_with("/api/")));
    attacks
}

/// Makes all attacks with a key; how many there were, and what those said that were not refused as they must be.
async fn attack(edge: &Edge, key: &str, victim: &Victim) -> (usize, Vec<String>) {
    let document: Value = serde_json::from_str(&crate::http::document()).unwrap();
    let attacks = attacks(&document, victim);
    let mut breaches = Vec::new();
    for attack in &attacks {
        let target = aimed(&attack.path, &victim.known).unwrap();
        let uri = format!("{target}{}", attack.query);
        let call = edge.call_as(key, &attack.method, &uri, attack.body);
        // What works for the victim may take its time; a refusal does not.
        let Ok(reply) = tokio::time::timeout(PATIENCE, call).await else {
            breaches.push(format!("{} {uri}: is being worked on", attack.method));
            continue;
        };
        // An upload that is no form, and a socket that asks for no upgrade, are refused as such before
        // anybody looks whose sandbox it is: the same answer as for one's own and for none.
        let blind = attack.blind
            && reply.status.as_u16() == 400
            && same_for_none(edge, key, attack, &reply.body).await;
        let text = String::from_utf8_lossy(&reply.body);
        let told = text.contains("mf_key_");
        if told || !blind && !matches!(reply.status.as_u16(), 403 | 404 | 501) {
            breaches.push(format!("{} {uri}: {reply:?}", attack.method));
        }
    }
    (attacks.len(), breaches)
}

#[tokio::test]
async fn two_tenants_attack_each_other_through_every_endpoint() {
    let edge = Edge::new().await;
    let pair = [Victim::new(&edge, "one").await, Victim::new(&edge, "two").await];
    let before = [pair[0].state(&edge).await, pair[1].state(&edge).await];
    for (attacker, victim) in [(0, 1), (1, 0)] {
        let (attacks, breaches) = attack(&edge, &pair[attacker].key, &pair[victim]).await;
        assert!(attacks > 60, "only {attacks} attacks");
        assert!(breaches.is_empty(), "{breaches:#?}");
        for (what, seen) in pair[victim].state(&edge).await {
            assert_eq!(before[victim].get(&what), Some(&seen), "{what} changed");
        }
    }
}

/// Were tenants not kept apart, the attacks would come through: with the victim's own key most do.
#[tokio::test]
async fn the_same_attacks_succeed_where_nothing_keeps_tenants_apart() {
    let edge = Edge::new().await;
    let victim = Victim::new(&edge, "one").await;
    let (attacks, breaches) = attack(&edge, &victim.key, &victim).await;
    let through = breaches.len();
    assert!(
        through * 4 > attacks * 3,
        "{through} of {attacks} attacks come through: {breaches:#?}"
    );
}

/// Whether a sandbox that nobody has gets the same answer.
async fn same_for_none(edge: &Edge, key: &str, attack: &Attack, body: &[u8]) -> bool {
    let none: BTreeMap<&'static str, String> = [
        "sandbox",
        "port",
        "token",
        "timer",
        "minutes",
        "session",
        "command",
        "terminal",
        "process",
        "context",
        "organization",
        "name",
    ]
    .map(|name| (name, "0192f0c1-2b3c-7def-8123-456789abcdef".to_owned()))
    .into();
    let Some(target) = aimed(&attack.path, &none) else { return false };
    let uri = format!("{target}{}", attack.query);
    let reply = edge.call_as(key, &attack.method, &uri, "").await;
    let message = |body: &[u8]| -> Value {
        serde_json::from_slice::<Value>(body).unwrap_or_default()["message"].clone()
    };
    reply.status.as_u16() == 400 && message(&reply.body) == message(body)
}
