//! Files through multipart and plain transfers.

use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use bytes::Bytes;
use serde_json::json;

use super::{Edge, KEY, Reply};
use crate::http::multipart::{Event, Parser};

const NAMES: [&str; 6] =
    ["a.txt", "deep/er/b", "quo\"te", "back\\slash", "ümläut 漢.txt", "line\r\nbreak"];

/// A form with all paths first, then all files, as the Python client sends it.
fn form(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (index, (path, _)) in files.iter().enumerate() {
        out.extend_from_slice(
            format!("--XX\r\nContent-Disposition: form-data; name=\"files[{index}].path\"\r\n\r\n{path}\r\n").as_bytes(),
        );
    }
    for (index, (_, data)) in files.iter().enumerate() {
        out.extend_from_slice(
            format!("--XX\r\nContent-Disposition: form-data; name=\"files[{index}].file\"; filename=\"f\"\r\nContent-Type: text/plain\r\n\r\n").as_bytes(),
        );
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"--XX--\r\n");
    out
}

async fn post(edge: &Edge, uri: &str, kind: &str, body: Vec<u8>) -> Reply {
    let chunks: Vec<_> = body
        .chunks(7)
        .map(|chunk| Ok::<_, std::io::Error>(Bytes::copy_from_slice(chunk)))
        .collect();
    let request = Request::post(uri)
        .header("authorization", format!("Bearer {KEY}"))
        .header("content-type", kind)
        .body(Body::from_stream(futures_util::stream::iter(chunks)));
    edge.send(request.unwrap()).await
}

/// (name, headers' file name, declared length, data) of every part.
fn parts(reply: &Reply) -> Vec<(String, Vec<u8>)> {
    let kind = reply.headers["content-type"].to_str().unwrap();
    let mut parser = Parser::for_content_type(kind).unwrap();
    parser.push(&reply.body);
    let mut parts: Vec<(String, Vec<u8>)> = Vec::new();
    loop {
        match parser.next().unwrap() {
            Event::Part(name) => parts.push((name, Vec::new())),
            Event::Data(data) => parts.last_mut().unwrap().1.extend_from_slice(&data),
            Event::PartEnd => {}
            Event::End => return parts,
            Event::Starved => panic!("the closing boundary is missing"),
        }
    }
}

#[tokio::test]
async fn odd_names_and_any_bytes_come_back() {
    let edge = Edge::new().await;
    let id = edge.sandbox().await;
    let data: Vec<Vec<u8>> =
        (0..NAMES.len()).map(|n| format!("\r\n--XX{n}\r\n\u{0}").into_bytes()).collect();
    let files: Vec<(&str, &[u8])> =
        NAMES.iter().zip(&data).map(|(name, data)| (*name, data.as_slice())).collect();
    let kind = "multipart/form-data; boundary=XX";
    // The data holds the boundary followed by a digit, which is no delimiter line.
    let bad = post(&edge, &format!("/toolbox/{id}/files/bulk-upload"), kind, form(&files)).await;
    assert_eq!(bad.fault().0, 400, "a boundary inside the data is the sender's mistake");
    let data: Vec<Vec<u8>> =
        (0..NAMES.len()).map(|n| format!("\r\n-XX{n}\r\n\u{0}\r").into_bytes()).collect();
    let files: Vec<(&str, &[u8])> =
        NAMES.iter().zip(&data).map(|(name, data)| (*name, data.as_slice())).collect();
    let stored = post(&edge, &format!("/toolbox/{id}/files/bulk-upload"), kind, form(&files)).await;
    assert_eq!(stored.status, StatusCode::OK, "{stored:?}");
    assert_eq!(
        stored.json()["files"][1],
        json!({ "name": "b", "path": "deep/er/b", "type": "file" })
    );
    let mut paths: Vec<&str> = NAMES.to_vec();
    paths.insert(1, "missing");
    let body = json!({ "paths": paths }).to_string();
    let found = edge.call("POST", &format!("/toolbox/{id}/files/bulk-download"), &body).await;
    let found_parts = parts(&found);
    assert_eq!(found_parts.len(), NAMES.len() + 1);
    assert_eq!(found_parts[1].0, "error");
    let error: serde_json::Value = serde_json::from_slice(&found_parts[1].1).unwrap();
    assert_eq!(error["code"], "FILE_NOT_FOUND");
    assert_eq!((&error["statusCode"], &error["source"]), (&json!(404), &json!("DAYTONA_DAEMON")));
    for (at, (name, data)) in NAMES.iter().zip(&data).enumerate() {
        let part = &found_parts[if at == 0 { 0 } else { at + 1 }];
        assert_eq!((part.0.as_str(), &part.1), ("file", data), "{name}");
    }
    let text = String::from_utf8_lossy(&found.body);
    for line in [
        "form-data; name=\"file\"; filename=\"quo\\\"te\"\r\nContent-Type: application/octet-stream\r\nContent-Length: 10\r\n\r\n",
        "name=\"file\"; filename=\"back\\\\slash\"",
        "name=\"file\"; filename*=UTF-8''line%0D%0Abreak",
        "name=\"error\"; filename=\"missing\"\r\nContent-Type: application/json",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[tokio::test]
async fn bad_forms_are_refused_and_what_was_stored_stays() {
    let edge = Edge::new().await;
    let id = edge.sandbox().await;
    let uri = format!("/toolbox/{id}/files/bulk-upload");
    let kind = "multipart/form-data; boundary=XX";
    let mut cut = form(&[("kept", b"1"), ("lost", b"2")]);
    cut.truncate(cut.len() - 9);
    let reply = post(&edge, &uri, kind, cut).await;
    assert_eq!(reply.fault().0, 400);
    assert!(reply.json()["errors"][0].is_string());
    let kept = edge.get(&format!("/toolbox/{id}/files/download?path=kept")).await;
    assert_eq!(kept.body, "1");
    assert_eq!(
        edge.get(&format!("/toolbox/{id}/files/download?path=lost")).await.fault().1,
        "FILE_NOT_FOUND"
    );
    let orphan =
        b"--XX\r\nContent-Disposition: form-data; name=\"files[0].file\"\r\n\r\nx\r\n--XX--"
            .to_vec();
    let (status, _, message) = post(&edge, &uri, kind, orphan).await.fault();
    assert!(status == 400 && message.contains("files[0].path"), "{message}");
    assert_eq!(post(&edge, &uri, "application/json", b"{}".to_vec()).await.fault().0, 415);
    let none =
        edge.call("POST", &format!("/toolbox/{id}/files/bulk-download"), r#"{"paths":[]}"#).await;
    assert_eq!(none.fault().0, 400);
}

#[tokio::test]
async fn one_file_goes_up_raw_or_as_a_field_and_comes_down_whole() {
    let edge = Edge::new().await;
    let id = edge.sandbox().await;
    let uri = format!("/toolbox/{id}/files/upload-v2?path=dir%2Ff.bin");
    let large = vec![7; 700_000];
    let stored = post(&edge, &uri, "application/octet-stream", large.clone()).await.json();
    assert_eq!(stored, json!({ "name": "f.bin", "path": "dir/f.bin", "type": "file" }));
    let down = edge.get(&format!("/toolbox/{id}/files/download?path=dir/f.bin")).await;
    assert_eq!(down.body, large);
    assert_eq!(down.headers["content-length"], "700000");
    let field = b"--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\nfield\r\n--XX--".to_vec();
    post(&edge, &uri, "multipart/form-data; boundary=XX", field).await.json();
    assert_eq!(
        edge.get(&format!("/toolbox/{id}/files/download?path=dir/f.bin")).await.body,
        "field"
    );
    assert_eq!(edge.get(&format!("/toolbox/{id}/files/download")).await.fault().0, 400);
    assert_eq!(edge.get(&format!("/toolbox/{id}/files/download?path=%ff")).await.fault().0, 400);
}
