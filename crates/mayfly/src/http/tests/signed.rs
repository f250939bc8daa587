//! F13: signed file URLs open exactly what was signed, for as long as was signed.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::{Edge, Reply};

fn url(id: &str, call: &str, key: &str, method: &str, path: &str, expires: i64) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(format!("v1:files:{method}:{path}:{expires}").as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
    let path = percent_encoding::utf8_percent_encode(path, percent_encoding::NON_ALPHANUMERIC);
    format!("/toolbox/{id}/files/{call}?path={path}&expires={expires}&signature=v1_{signature}")
}

async fn send(edge: &Edge, method: &str, uri: &str) -> Reply {
    edge.send(Request::builder().method(method).uri(uri).body(Body::from("new")).unwrap()).await
}

#[tokio::test]
async fn f13_signed_urls_open_exactly_what_was_signed() {
    let edge = Edge::new().await;
    let id = edge.sandbox().await;
    let key = edge.get(&format!("/api/sandbox/{id}/signing-key")).await.json();
    let key = key.as_str().unwrap();
    let path = "a b/ü.txt";
    let up = url(&id, "upload-v2", key, "POST", path, 0);
    assert_eq!(send(&edge, "POST", &up).await.status.as_u16(), 200);
    let soon = edge.app.now().0 / 1000 + 60;
    let down = url(&id, "download", key, "GET", path, soon);
    assert_eq!(send(&edge, "GET", &down).await.body, "new");
    let other = edge.sandbox().await;
    for (what, method, uri) in [
        ("path", "GET", down.replace("txt", "txu")),
        ("time", "GET", down.replace(&soon.to_string(), &(soon + 1).to_string())),
        ("no time", "GET", down.replace("&expires=", "&x=")),
        ("method", "POST", down.replace("download", "upload-v2")),
        ("method of the same call", "POST", down.clone()),
        ("another call", "GET", down.replace("download", "info")),
        ("signature", "GET", format!("{down}A")),
        ("no signature", "GET", down.split("v1_").next().unwrap().to_owned()),
        ("sandbox", "GET", down.replace(&id, &other)),
        ("unknown sandbox", "GET", down.replace(&id, "0192f0c1-2b3c-7def-8123-456789abcdef")),
    ] {
        assert_eq!(send(&edge, method, &uri).await.fault().0, 401, "{what}");
    }
    edge.world.clock.advance(Duration::from_secs(62));
    assert_eq!(send(&edge, "GET", &down).await.fault().0, 401, "after its time");
    let down = url(&id, "download", key, "GET", path, 0);
    assert_eq!(send(&edge, "GET", &down).await.status.as_u16(), 200, "0 never ends");
    let rotated =
        edge.call("POST", &format!("/api/sandbox/{id}/signing-key/rotate"), "").await.json();
    assert_ne!(rotated.as_str().unwrap(), key);
    assert_eq!(send(&edge, "GET", &down).await.fault().0, 401, "after rotation");
    let down = url(&id, "download", rotated.as_str().unwrap(), "GET", path, 0);
    assert_eq!(send(&edge, "GET", &down).await.status.as_u16(), 200);
}
