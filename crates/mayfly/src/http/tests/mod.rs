//! The edge in process, over the test kit's store and runtime.

mod access;
mod cors;
mod driver;
mod errors;
mod events;
mod files;
mod git;
mod interpreter;
mod listener;
mod lists;
mod lsp;
mod metrics;
mod network;
mod previews;
mod process;
mod pty;
mod sandboxes;
mod sessions;
mod signed;
mod site;
mod sockets;
mod tenants;
mod tenants_attack;
mod volumes;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode};
use bytes::Bytes;
use http_body_util::BodyExt;
use mayfly_core::ports::clock::Clock;
use mayfly_core::ports::entropy::Entropy;
use mayfly_core::ports::store::Store;
use mayfly_engine::{Engine, Settings};
use mayfly_testkit::{Fuse, World};
use serde_json::Value;
use tower::ServiceExt;

use super::app::{App, Options, Parts};
use super::gate::Peer;

pub(super) const KEY: &str = "mf_key_0123456789abcdef0123456789abcdef";

/// A server without listeners.
#[derive(Clone)]
pub(super) struct Edge {
    pub(super) app: App,
    pub(super) world: World,
    router: Router,
    peer: Peer,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Reply {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// Status, code and message of a Daytona error.
    pub(super) fn fault(&self) -> (u16, String, String) {
        let body = self.json();
        assert_eq!(body["statusCode"], self.status.as_u16());
        for field in ["source", "path", "method", "timestamp"] {
            assert!(body[field].is_string(), "{field} in {body}");
        }
        let text = |field: &str| body[field].as_str().unwrap().to_owned();
        (self.status.as_u16(), text("code"), text("message"))
    }
}

impl Edge {
    pub(super) async fn new() -> Self {
        Self::with(Options::default()).await
    }

    pub(super) async fn with(options: Options) -> Self {
        let world = World::new(7);
        let store = world.store(&Fuse::never());
        Self::over(world, store, options).await
    }

    /// Over this store instead of the one in memory.
    pub(super) async fn over(world: World, store: Arc<dyn Store>, options: Options) -> Self {
        let (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>) =
            (world.clock.clone(), world.entropy.clone());
        // Timers look often: their time is the world's, which stands still unless a test moves it.
        let timer_tick = Duration::from_millis(10);
        let settings = Settings { target: "us".to_owned(), timer_tick, ..Settings::default() };
        let engine = Engine::open(
            Arc::clone(&store),
            world.runtime(&Fuse::never()),
            Arc::clone(&clock),
            Arc::clone(&entropy),
            settings,
        )
        .await
        .unwrap();
        engine.access().bootstrap_key(Some(KEY)).await.unwrap();
        let app = App::new(Parts { engine, store, clock, entropy, master: [3; 32], options });
        let router = crate::http::router(app.clone());
        Self { app, world, router, peer: Peer::Remote(SocketAddr::from((Ipv4Addr::LOCALHOST, 9))) }
    }

    /// The same server over its unix socket.
    pub(super) fn vouched(mut self) -> Self {
        self.peer = Peer::Vouched;
        self
    }

    /// The same server, reached from another address.
    pub(super) fn from(&self, address: [u8; 4]) -> Self {
        let peer = Peer::Remote(SocketAddr::from((address, 9)));
        Self { app: self.app.clone(), world: self.world.clone(), router: self.router.clone(), peer }
    }

    /// Sends a request as it is.
    pub(super) async fn send(&self, mut request: Request) -> Reply {
        request.extensions_mut().insert(self.peer);
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Reply { status: parts.status, headers: parts.headers, body }
    }

    /// With the key and a JSON body, which may be empty.
    pub(super) async fn call(&self, method: &str, uri: &str, body: &str) -> Reply {
        self.call_as(KEY, method, uri, body).await
    }

    /// The same with another key.
    pub(super) async fn call_as(&self, key: &str, method: &str, uri: &str, body: &str) -> Reply {
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header("host", "box.test:3457")
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", "application/json");
        self.send(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    /// An organization, and the value of a key of it with these permissions.
    pub(super) async fn tenant(&self, name: &str, permissions: &[&str]) -> String {
        let operator = self.clone().vouched();
        let body = serde_json::json!({ "name": name }).to_string();
        let made = operator.plain("POST", "/api/organizations", None, &body).await;
        assert!(matches!(made.status.as_u16(), 201 | 409), "{made:?}");
        let key = format!("{name}-key");
        let body = serde_json::json!({ "name": key, "permissions": permissions }).to_string();
        let made = operator.plain("POST", "/api/api-keys", Some(name), &body).await;
        assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
        made.json()["value"].as_str().unwrap().to_owned()
    }

    /// Without a key, acting in an organization.
    pub(super) async fn plain(
        &self,
        method: &str,
        uri: &str,
        organization: Option<&str>,
        body: &str,
    ) -> Reply {
        let mut request = Request::builder().method(method).uri(uri);
        if let Some(organization) = organization {
            request = request.header("x-daytona-organization-id", organization);
        }
        self.send(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    pub(super) async fn get(&self, uri: &str) -> Reply {
        self.call("GET", uri, "").await
    }

    /// Without any header.
    pub(super) async fn bare(&self, method: Method, uri: &str) -> Reply {
        self.send(Request::builder().method(method).uri(uri).body(Body::empty()).unwrap()).await
    }

    /// A started sandbox; its id.
    pub(super) async fn sandbox(&self) -> String {
        let made = self.call("POST", "/api/sandbox", "{}").await;
        assert_eq!(made.status, StatusCode::OK, "{made:?}");
        let made = made.json();
        assert_eq!(made["state"], "started");
        made["id"].as_str().unwrap().to_owned()
    }
}
