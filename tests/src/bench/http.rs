//! A visitor: one kept-alive HTTP connection, blocking, with nothing between it and the clock.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::Res;

/// An open connection.
#[derive(Debug)]
pub struct Visitor {
    address: SocketAddr,
    stream: BufReader<TcpStream>,
    host: String,
}

/// An answer, read to its end.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// A header's value; names are compared without case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// If it is none, or the status is not one of success: then with the body.
    pub fn json(&self) -> Res<serde_json::Value> {
        if !(200..300).contains(&self.status) {
            let body = String::from_utf8_lossy(&self.body);
            return Err(format!("status {}: {body}", self.status).into());
        }
        Ok(serde_json::from_slice(&self.body)?)
    }
}

fn open(address: SocketAddr) -> Res<BufReader<TcpStream>> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    Ok(BufReader::new(stream))
}

impl Visitor {
    /// Connects to a server and asks it for `host`.
    ///
    /// # Errors
    /// If nobody listens there.
    pub fn connect(address: SocketAddr, host: &str) -> Res<Self> {
        Ok(Self { address, stream: open(address)?, host: host.to_owned() })
    }

    /// GET.
    ///
    /// # Errors
    /// If the connection breaks.
    pub fn get(&mut self, uri: &str) -> Res<Answer> {
        self.send("GET", uri, &[], None)
    }

    /// Any request; a body is sent as JSON.
    ///
    /// # Errors
    /// If the connection breaks.
    pub fn send(
        &mut self,
        method: &str,
        uri: &str,
        headers: &[(&str, &str)],
        body: Option<&serde_json::Value>,
    ) -> Res<Answer> {
        let mut request = format!("{method} {uri} HTTP/1.1\r\nHost: {}\r\n", self.host);
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = body {
            let text = body.to_string();
            let length = text.len();
            request.push_str(&format!(
                "Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{text}"
            ));
        } else {
            request.push_str("\r\n");
        }
        self.stream.get_mut().write_all(request.as_bytes())?;
        let answer = self.answer()?;
        // A server lets a connection carry so many requests and then another one has to be made.
        if answer.header("Connection") == Some("close") {
            self.stream = open(self.address)?;
        }
        Ok(answer)
    }

    fn answer(&mut self) -> Res<Answer> {
        let first = self.line()?;
        let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
        let mut answer = Answer { status: status.ok_or("no HTTP answer")?, ..Answer::default() };
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            answer.headers.push((name.to_owned(), value.trim().to_owned()));
        }
        let length = answer.header("Content-Length").and_then(|text| text.parse().ok());
        if let Some(length) = length {
            answer.body.resize(length, 0);
            self.stream.read_exact(&mut answer.body)?;
        } else if answer.header("Transfer-Encoding") == Some("chunked") {
            loop {
                let size = usize::from_str_radix(self.line()?.trim(), 16)?;
                let start = answer.body.len();
                answer.body.resize(start + size, 0);
                self.stream.read_exact(&mut answer.body[start..])?;
                self.line()?;
                if size == 0 {
                    break;
                }
            }
        }
        Ok(answer)
    }

    fn line(&mut self) -> Res<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err("the server closed the connection".into());
        }
        line.truncate(line.trim_end().len());
        Ok(line)
    }
}
