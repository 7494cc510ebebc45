//! Reads bodies in parts and uses sockets with the SDK, for tests of the host: what a handler that waits does in a node.
//!
//! - `PUT` reads the body and returns its bytes and their sum; `POST` the same, for a body that comes by itself.
//! - `GET` with `url` does so with a response from there.
//! - `PATCH` with `url` sends the body to a socket there, and returns what comes back.
//! - `LINK` with `url` sends the body there as that of a request, part by part, and returns the response. If it knows the length, it
//!   states it.
//!
//! A datagram is answered with its bytes and their sum.

use std::collections::BTreeMap;

use exuvia::http::{BodyStream, Fetch, Request, Responder, Response};
use exuvia::prelude::*;
use exuvia::socket::{Connect, Event, Socket};

#[derive(Serialize, Deserialize)]
struct Relay {
    /// Bodies that come by themselves.
    uploads: BTreeMap<Socket, (Responder, Sum)>,
}

/// What bytes come to, in their order.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Sum {
    bytes: u64,
    sum: u64,
}

impl Sum {
    fn add(&mut self, part: &[u8]) {
        self.bytes += part.len() as u64;
        for byte in part {
            self.sum = self.sum.wrapping_mul(31).wrapping_add(u64::from(*byte));
        }
    }

    fn response(self) -> Response {
        Response::text(format!("{} {}", self.bytes, self.sum))
    }
}

async fn read(mut body: BodyStream) -> Result<Response, Response> {
    let mut sum = Sum::default();
    while let Some(part) = body.next().await? {
        sum.add(&part);
    }
    Ok(sum.response())
}

fn bad_gateway(error: impl std::fmt::Display) -> Response {
    Response::text(error.to_string()).with_status(502)
}

#[derive(Deserialize)]
struct Query {
    url: String,
}

async fn fetch(request: &Request) -> Result<Response, Response> {
    let query: Query = request.query()?;
    let fetching = Fetch::get(&query.url).stream().map_err(bad_gateway)?;
    read(fetching.await.map_err(bad_gateway)?.body).await
}

async fn pass_on(request: &Request) -> Result<Response, Response> {
    let query: Query = request.query()?;
    let connecting = Connect::to(&query.url).passive().send();
    let socket = connecting
        .map_err(bad_gateway)?
        .await
        .map_err(bad_gateway)?
        .socket;
    let mut body = request.body_stream();
    let mut back = Vec::new();
    while let Some(part) = body.next().await? {
        // No faster than the other side takes it.
        socket
            .write(&part)
            .map_err(bad_gateway)?
            .await
            .map_err(bad_gateway)?;
        let mut missing = part.len();
        while missing > 0 {
            match socket
                .read()
                .map_err(bad_gateway)?
                .await
                .map_err(bad_gateway)?
            {
                Event::Data(bytes) => {
                    missing = missing.saturating_sub(bytes.len());
                    back.extend(bytes);
                }
                other => return Err(bad_gateway(format!("{other:?}"))),
            }
        }
    }
    socket.end().map_err(bad_gateway)?;
    match socket
        .read()
        .map_err(bad_gateway)?
        .await
        .map_err(bad_gateway)?
    {
        Event::End => Ok(Response::new(200).with_body(back)),
        other => Err(bad_gateway(format!("{other:?}"))),
    }
}

async fn upload(request: &Request) -> Result<Response, Response> {
    let query: Query = request.query()?;
    let length = request
        .header("content-length")
        .and_then(|text| text.parse().ok());
    let put = Fetch::new("PUT", &query.url);
    let uploading = put.upload(length).map_err(bad_gateway)?;
    let upload = uploading.await.map_err(bad_gateway)?;
    let mut body = request.body_stream();
    while let Some(part) = body.next().await? {
        let written = upload.write(&part).map_err(bad_gateway)?;
        if written.await.is_err() {
            // The response says why.
            break;
        }
    }
    let response = upload.finish().map_err(bad_gateway)?.await;
    let response = response.map_err(bad_gateway)?;
    let text = response.body.collect(1_000).await?;
    Ok(Response::new(response.status).with_body(text))
}

#[exuvia::actor(schema = 1)]
impl Actor for Relay {
    fn init(_: (), _: &mut Context) -> Result<Self, String> {
        Ok(Relay {
            uploads: BTreeMap::new(),
        })
    }

    async fn handle_http(
        &mut self,
        request: Request,
        from: Responder,
        _: &mut Context,
    ) -> Option<Response> {
        let response = match request.method.as_str() {
            "PUT" => read(request.body_stream()).await,
            "GET" => fetch(&request).await,
            "PATCH" => pass_on(&request).await,
            "LINK" => upload(&request).await,
            _ => {
                let Some(socket) = request.body_stream().socket() else {
                    return Some(Response::new(400));
                };
                if let Err(error) = socket.activate() {
                    return Some(bad_gateway(error));
                }
                self.uploads.insert(socket, (from, Sum::default()));
                return None;
            }
        };
        Some(response.unwrap_or_else(|error| error))
    }

    fn handle_socket(&mut self, socket: Socket, event: Event, _: &mut Context) {
        match event {
            Event::Data(part) => {
                if let Some((_, sum)) = self.uploads.get_mut(&socket) {
                    sum.add(&part);
                }
            }
            Event::Datagram { peer, bytes } => {
                let mut sum = Sum::default();
                sum.add(&bytes);
                // It may be lost on its way as well.
                let _ = socket.send_to(peer, format!("{} {}", sum.bytes, sum.sum).as_bytes());
            }
            Event::End => {
                if let Some((from, sum)) = self.uploads.remove(&socket) {
                    // The client may have gone.
                    let _ = from.respond(&sum.response());
                }
            }
            _ => {
                self.uploads.remove(&socket);
            }
        }
    }
}
