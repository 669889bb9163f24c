//! The requests of one fetch, as gix asks for them.

use std::any::Any;
use std::io::{self, BufRead, Read, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gix::protocol::transport::client::blocking_io::http::{
    GetResponse, Http, PostBodyDataKind, PostResponse,
};
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use reqwest::{RequestBuilder, Response, Url};
use tokio_util::bytes::Bytes;

use super::answer::{complaint, refusal, unsent};
use super::error::{Class, GitError, chain};
use super::http::{Caller, given_up};
use super::watch::{Watch, lock};

/// Longest request body: what is wanted and what is there, in bytes.
const REQUEST_BYTES_MAX: usize = 1 << 20;
/// Warm connections that the server may have closed while nobody looked, and that are tried in
/// vain before one is made.
const STALE_MAX: usize = 3;
/// How long an answer's end is waited for.
const END: Duration = Duration::from_millis(100);

/// The HTTP of one fetch, as gix asks for it.
#[derive(Debug)]
pub(super) struct Exchange {
    caller: Arc<Caller>,
    watch: Arc<Watch>,
    /// Where the repository is after a redirect.
    moved_to: Option<String>,
    /// The request before, whose connection the next one takes.
    last: Option<Arc<Mutex<Pending>>>,
}

impl Exchange {
    pub(super) fn new(caller: &Arc<Caller>, watch: &Arc<Watch>) -> Self {
        Self { caller: Arc::clone(caller), watch: Arc::clone(watch), moved_to: None, last: None }
    }

    fn request(
        &self,
        mut request: RequestBuilder,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> RequestBuilder {
        for line in headers {
            let Some((name, value)) = line.as_ref().split_once(':') else { continue };
            let name = HeaderName::try_from(name);
            let value = HeaderValue::try_from(value.trim());
            if let (Ok(name), Ok(value)) = (name, value) {
                request = request.header(name, value);
            }
        }
        match &self.caller.authorization {
            Some(value) => request.header(AUTHORIZATION, value.clone()),
            None => request,
        }
    }

    fn pending(&mut self, request: RequestBuilder) -> Arc<Mutex<Pending>> {
        let pending = Arc::new(Mutex::new(Pending {
            caller: Arc::clone(&self.caller),
            watch: Arc::clone(&self.watch),
            request: Some((request, Vec::new())),
            response: None,
            begun: false,
        }));
        if let Some(last) = self.last.replace(Arc::clone(&pending)) {
            lock(&last).finish();
        }
        pending
    }
}

impl Http for Exchange {
    type Headers = Headers;
    type ResponseBody = Body;
    type PostBody = Upload;

    fn get(
        &mut self,
        url: &str,
        base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<GetResponse<Headers, Body>, gix::Error> {
        let request = self.request(self.caller.client.get(url), headers);
        let pending = self.pending(request);
        let mut answer = Headers { pending: Arc::clone(&pending), text: None, at: 0 };
        answer.fill_buf().map_err(gix::Error::from_error)?;
        let final_url = lock(&pending).response.as_ref().map(|response| response.url().clone());
        self.moved_to = final_url.and_then(|found| moved_base(&found, url, base_url));
        Ok(GetResponse { headers: answer, body: Body { pending, chunk: Bytes::new() } })
    }

    fn post(
        &mut self,
        url: &str,
        _base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
        _body: PostBodyDataKind,
    ) -> Result<PostResponse<Headers, Body, Upload>, gix::Error> {
        let request = self.request(self.caller.client.post(url), headers);
        let pending = self.pending(request);
        Ok(PostResponse {
            post_body: Upload(Arc::clone(&pending)),
            headers: Headers { pending: Arc::clone(&pending), text: None, at: 0 },
            body: Body { pending, chunk: Bytes::new() },
        })
    }

    fn configure(&mut self, _config: &dyn Any) -> Result<(), gix::Error> {
        Ok(())
    }

    fn redirected_base_url(&self) -> Option<String> {
        self.moved_to.clone()
    }
}

/// Where the repository is, when what was asked for below it was answered from elsewhere.
fn moved_base(found: &Url, asked: &str, base: &str) -> Option<String> {
    let tail = asked.strip_prefix(base)?;
    let found = found.as_str();
    if found == asked {
        return None;
    }
    found.strip_suffix(tail).map(str::to_owned)
}

/// A request that is sent when its answer is first looked at.
#[derive(Debug)]
struct Pending {
    caller: Arc<Caller>,
    watch: Arc<Watch>,
    request: Option<(RequestBuilder, Vec<u8>)>,
    response: Option<Response>,
    /// Whether some of the answer's body has come.
    begun: bool,
}

impl Pending {
    /// Sends the request; the answer's headers, a line each.
    fn send(&mut self) -> io::Result<Vec<u8>> {
        let Some((request, body)) = self.request.take() else { return Ok(Vec::new()) };
        let request = if body.is_empty() { request } else { request.body(body) };
        let response = self.response_to(request)?;
        self.watch.received(0)?;
        if let Some(refusal) = refusal(&response, self.caller.authorization.is_some()) {
            self.watch.blame(refusal);
            return Err(io::Error::other("the server refused"));
        }
        let mut lines = Vec::new();
        for (name, value) in response.headers() {
            lines.extend_from_slice(name.as_str().as_bytes());
            lines.push(b':');
            lines.extend_from_slice(value.as_bytes());
            lines.push(b'\n');
        }
        self.response = Some(response);
        Ok(lines)
    }

    /// Sends it again where a connection of before turns out to be closed: asking twice does no
    /// harm.
    fn response_to(&self, mut request: RequestBuilder) -> io::Result<Response> {
        for left in (0..=STALE_MAX).rev() {
            let again = request.try_clone().filter(|_| left > 0);
            let error = match self.caller.wait(&self.watch, request.send())? {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            let stale = error.is_request() && !error.is_connect() && !error.is_timeout();
            let Some(again) = again.filter(|_| stale) else {
                self.watch.blame(unsent(error));
                break;
            };
            request = again;
        }
        Err(io::Error::other("the request failed"))
    }

    /// The next bytes of the answer's body; none at its end.
    fn chunk(&mut self) -> io::Result<Bytes> {
        let Some(response) = self.response.as_mut() else { return Ok(Bytes::new()) };
        let chunk = self.caller.wait(&self.watch, response.chunk())?.map_err(|error| {
            let message = format!(
                "the connection to the git server broke off: {}; the next refresh tries again",
                chain(&error.without_url())
            );
            self.watch.blame(GitError::new(Class::Network, message));
            io::Error::other("the connection broke off")
        })?;
        match chunk {
            Some(chunk) => {
                self.watch.received(chunk.len())?;
                if !std::mem::replace(&mut self.begun, true)
                    && let Some(complaint) = complaint(&chunk)
                {
                    self.watch.blame(complaint);
                }
                Ok(chunk)
            }
            None => {
                // Dropped whole, the connection serves the next request.
                self.response = None;
                Ok(Bytes::new())
            }
        }
    }

    /// The library reads what it needs and not on to the answer's end, which may still be on its
    /// way; without it the connection would be closed.
    fn finish(&mut self) {
        let Some(mut response) = self.response.take() else { return };
        let end = async move { tokio::time::timeout(END, response.chunk()).await };
        // Whatever it is: who has asked has all there was to know.
        drop(self.caller.wait(&self.watch, end));
    }
}

/// The request's body, sent when the answer is asked for.
#[derive(Debug)]
pub(super) struct Upload(Arc<Mutex<Pending>>);

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut pending = lock(&self.0);
        let Some((_, body)) = pending.request.as_mut() else { return Err(given_up()) };
        if body.len().saturating_add(bytes.len()) > REQUEST_BYTES_MAX {
            return Err(io::Error::other("the request is too long"));
        }
        body.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The answer's header lines.
#[derive(Debug)]
pub(super) struct Headers {
    pending: Arc<Mutex<Pending>>,
    text: Option<Vec<u8>>,
    at: usize,
}

impl Read for Headers {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, buffer)
    }
}

impl BufRead for Headers {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.text.is_none() {
            self.text = Some(lock(&self.pending).send()?);
        }
        let text = self.text.as_deref().unwrap_or_default();
        Ok(text.get(self.at..).unwrap_or_default())
    }

    fn consume(&mut self, bytes: usize) {
        self.at += bytes;
    }
}

/// The answer's body.
#[derive(Debug)]
pub(super) struct Body {
    pending: Arc<Mutex<Pending>>,
    chunk: Bytes,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, buffer)
    }
}

impl BufRead for Body {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.chunk.is_empty() {
            self.chunk = lock(&self.pending).chunk()?;
        }
        Ok(&self.chunk)
    }

    fn consume(&mut self, bytes: usize) {
        drop(self.chunk.split_to(bytes.min(self.chunk.len())));
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        lock(&self.pending).finish();
    }
}

fn read_buffered(from: &mut impl BufRead, buffer: &mut [u8]) -> io::Result<usize> {
    let ready = from.fill_buf()?;
    let bytes = ready.len().min(buffer.len());
    buffer[..bytes].copy_from_slice(&ready[..bytes]);
    from.consume(bytes);
    Ok(bytes)
}
