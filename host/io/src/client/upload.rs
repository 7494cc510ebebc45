//! Requests to the outside whose bodies their processes send in parts. The socket of one takes the body and has the response,
//! which is read from it. Both directions have their own half here, and one may be ahead of the other: a server may respond
//! before it has the whole body.
//!
//! A body is complete when its process says so, and only then: of one whose length was stated, the last part waits for that.

use std::collections::VecDeque;
use std::future::pending;
use std::time::Duration;

use bytes::Bytes;
use exuvia_process::{Grants, Payload};
use hyper::Method;
use hyper::body::Frame;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::connector::{REQUESTS, permitted};
use super::{Arc, Pid, Place, Shared, time};
use crate::body::Reader;
use crate::connection::{Connection, PortEvent};
use crate::head::{self, Outbound};
use crate::port::{Outgoing, Port};
use crate::stream::{Parts, Streamed, Unwritten};
use exuvia_abi::io::{HTTP_STREAM, REFUSED, SOCKET_DATA, SOCKET_END, SOCKET_OPEN, SOCKET_TEXT};

/// How far a process is with the body.
#[derive(Debug)]
enum Sent {
    Going,
    Complete,
    /// It was cut off, for this reason.
    Failed(String),
}

/// What has come of the request.
#[derive(Debug)]
enum Came {
    Nothing,
    Response,
    /// None, for this reason.
    Failed(String),
}

impl<G: Send + 'static> Shared<G> {
    /// Makes a request whose body its process sends in parts, and serves it until the response has been read. Returns why the
    /// process may not make it.
    pub(super) async fn upload(
        &self,
        mut outbound: Outbound,
        grants: &Grants,
        to: (Pid, u64),
        place: Place<G>,
    ) -> Result<(), String> {
        if matches!(outbound.method, Method::GET | Method::HEAD) {
            return Err(format!(
                "invalid: a {} has no body that could be sent in parts",
                outbound.method
            ));
        }
        let (host, port) = permitted(&outbound.uri, REQUESTS, grants)?;
        let connection = Arc::new(self.connection()?);
        // An address of IPv6 has its brackets here.
        let shown = outbound.uri.host().unwrap_or(&host);
        let opened = head::opened_upload(&format!("{shown}:{port}"));
        let charge = self.charge(to.0, opened.len());
        let Some(charge) = place.unless_ended(charge).await else {
            return Ok(());
        };
        let charge = charge?;
        let told = (SOCKET_OPEN, opened, charge);
        connection.open_as_reply(Port::upload(to.0), to, told);
        let time = time(&outbound);
        let (parts, body) = Streamed::new(outbound.length);
        let (sent, is_sent) = watch::channel(Sent::Going);
        let (came, has_come) = watch::channel(Came::Nothing);
        let (too_large, is_too_large) = watch::channel(false);
        let sending = Sending {
            port: &connection,
            parts: Some(parts),
            count: 0,
            length: outbound.length,
            last: None,
            time,
            sent,
            has_come,
            refusal: String::new(),
        };
        let first = std::mem::take(&mut outbound.body);
        let receiving = Receiving {
            port: connection.clone(),
            time,
            is_sent,
            came,
            is_too_large,
        };
        let exchange = async {
            tokio::select! {
                () = sending.run(first, &too_large) => {}
                () = receiving.run(self, outbound, body, grants) => {}
            }
        };
        // What it has begun ends with it; not with `exuvia.http`, since the socket is open.
        tokio::select! {
            biased;
            () = connection.owner_ended() => {}
            () = exchange => {}
        }
        drop(place);
        Ok(())
    }
}

/// The half that takes the body from the process.
struct Sending<'a, G: 'static> {
    port: &'a Connection<G>,
    /// `None`: it has ended, or the server takes no more of it.
    parts: Option<Parts>,
    /// The bytes of it so far.
    count: u64,
    /// The bytes that were stated.
    length: Option<u64>,
    /// The last part, which waits until the process says that the body is complete.
    last: Option<Bytes>,
    time: Duration,
    sent: watch::Sender<Sent>,
    has_come: watch::Receiver<Came>,
    /// Why nothing more is taken, as far as it is known.
    refusal: String,
}

impl<G: Send + 'static> Sending<'_, G> {
    /// Returns when the process wants nothing more, or has ended.
    async fn run(mut self, first: Bytes, too_large: &watch::Sender<bool>) {
        if !first.is_empty() {
            // Nobody waits for it.
            let _ = self.part(first).await;
        }
        loop {
            let event = match &self.parts {
                Some(parts) => tokio::select! {
                    biased;
                    () = parts.closed() => {
                        self.gone();
                        continue;
                    }
                    event = timeout(self.time, self.port.port_event()) => event,
                },
                None => Ok(self.port.port_event().await),
            };
            match event {
                Ok(PortEvent::Write(queue)) => {
                    if self.write(queue).await {
                        return;
                    }
                }
                Ok(PortEvent::TooLarge) => {
                    // The other half tells the process, and ends.
                    too_large.send_replace(true);
                    pending::<()>().await;
                }
                Ok(PortEvent::OwnerEnded(_) | PortEvent::Unread | PortEvent::Closed) => return,
                Err(_) => {
                    self.fails("timeout: the process has sent no part of the body in time".into());
                }
            }
        }
    }

    /// Takes what the process has sent. Returns whether it wants nothing more.
    async fn write(&mut self, queue: VecDeque<Outgoing>) -> bool {
        let port = self.port;
        let mut writes = port.writes(queue);
        while let Some((tag, payload)) = writes.next() {
            let bytes = payload.as_slice();
            let taken = match tag {
                SOCKET_DATA | SOCKET_TEXT => self.part(Bytes::copy_from_slice(bytes)).await,
                SOCKET_END => self.end(bytes).await,
                // It takes nothing else: SOCKET_CLOSE.
                _ => {
                    writes.written();
                    return true;
                }
            };
            match taken {
                true => writes.written(),
                false => writes.refuse(self.refusal().await),
            }
        }
        false
    }

    /// Sends a part. Returns whether it was taken.
    async fn part(&mut self, bytes: Bytes) -> bool {
        if self.parts.is_none() {
            return false;
        }
        if bytes.is_empty() {
            return true;
        }
        self.count += bytes.len() as u64;
        match self.length {
            Some(length) if self.count > length => {
                self.fails(format!(
                    "invalid: the body has more bytes than the {length} that were stated"
                ));
                false
            }
            Some(length) if self.count == length => {
                self.last = Some(bytes);
                true
            }
            _ => self.put(Frame::data(bytes)).await,
        }
    }

    /// Completes the body. Returns whether it is complete.
    async fn end(&mut self, payload: &[u8]) -> bool {
        if self.parts.is_none() {
            return false;
        }
        if let Some(length) = self.length.filter(|length| *length != self.count) {
            let count = self.count;
            self.fails(format!(
                "invalid: the body has {count} bytes, and {length} were stated"
            ));
            return false;
        }
        let trailers = match head::trailers(payload) {
            Ok(trailers) => trailers,
            Err(why) => {
                self.fails(format!("invalid: a trailer: {why}"));
                return false;
            }
        };
        if self.length.is_some() && !trailers.is_empty() {
            self.fails("invalid: a body with `length` has no trailers".into());
            return false;
        }
        if let Some(last) = self.last.take()
            && !self.put(Frame::data(last)).await
        {
            return false;
        }
        if !trailers.is_empty() && !self.put(Frame::trailers(trailers)).await {
            return false;
        }
        if let Some(parts) = self.parts.take() {
            parts.complete();
        }
        self.refusal = "invalid: the body has ended".into();
        self.sent.send_replace(Sent::Complete);
        true
    }

    async fn put(&mut self, frame: Frame<Bytes>) -> bool {
        let Some(parts) = &self.parts else {
            return false;
        };
        match parts.put(frame, self.time).await {
            Ok(()) => true,
            Err(Unwritten::Gone) => {
                self.gone();
                false
            }
            Err(Unwritten::Slow) => {
                self.fails("timeout: the server takes no more of the body".into());
                false
            }
        }
    }

    /// Cuts the body off.
    fn fails(&mut self, why: String) {
        self.refusal.clone_from(&why);
        // Before the server can notice.
        self.sent.send_replace(Sent::Failed(why));
        self.parts = None;
    }

    /// The server takes no more.
    fn gone(&mut self) {
        self.parts = None;
        // Nothing more of it is awaited: from now on the response has its time.
        self.sent.send_replace(Sent::Complete);
    }

    /// Finds out why nothing more is taken.
    async fn refusal(&mut self) -> &str {
        if self.refusal.is_empty() {
            let came = self
                .has_come
                .wait_for(|came| !matches!(came, Came::Nothing));
            self.refusal = match came.await.as_deref() {
                Ok(Came::Failed(why)) => why.clone(),
                _ => "reset: the server has responded and takes no more of the body".into(),
            };
        }
        &self.refusal
    }
}

/// The half that has the response for the process.
struct Receiving<G: 'static> {
    port: Arc<Connection<G>>,
    time: Duration,
    is_sent: watch::Receiver<Sent>,
    came: watch::Sender<Came>,
    is_too_large: watch::Receiver<bool>,
}

impl<G: Send + 'static> Receiving<G> {
    /// Returns when the process has read the response, or knows why there is none.
    async fn run(self, shared: &Shared<G>, outbound: Outbound, body: Streamed, grants: &Grants) {
        let response = async {
            if outbound.length == Some(0) {
                // With its head such a request is complete.
                self.sent().await;
            }
            shared.head(outbound, Some(body), grants).await
        };
        let response = tokio::select! {
            biased;
            why = self.late("timeout: there was no response in time") => Err(why),
            response = response => response,
        };
        let (parts, body, uri) = match response {
            Ok(response) => response,
            Err(why) => {
                self.came.send_replace(Came::Failed(why.clone()));
                self.port.tell(REFUSED, Payload::new(why.as_bytes())).await;
                return;
            }
        };
        self.came.send_replace(Came::Response);
        let head = head::inbound(parts.status, &parts.headers, &uri, b"");
        self.port.deliver(HTTP_STREAM, Payload::from(head));
        // The process may send all of the body before it looks, and has time for that.
        tokio::select! {
            biased;
            () = self.port.delivered() => {}
            _ = self.late("") => {}
        }
        let reader = Reader {
            port: self.port,
            body,
            most: u64::MAX,
            reading: self.time,
            timeout: self.time,
            too_large: Some(self.is_too_large),
        };
        reader.fetch().await;
    }

    /// Waits until the body has ended. Returns why, if it was cut off.
    async fn sent(&self) -> Option<String> {
        let mut is_sent = self.is_sent.clone();
        match &*is_sent
            .wait_for(|sent| !matches!(sent, Sent::Going))
            .await
            .ok()?
        {
            Sent::Failed(why) => Some(why.clone()),
            Sent::Going | Sent::Complete => None,
        }
    }

    /// Waits until the body was cut off, or until some time after its end. Returns why.
    async fn late(&self, why: &str) -> String {
        match self.sent().await {
            Some(failed) => failed,
            None => {
                sleep(self.time).await;
                why.to_owned()
            }
        }
    }
}
