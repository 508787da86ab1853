//! nginx from Debian's package as the observed service; its log is the truth.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::namespace::Namespace;
use crate::process::Process;
use crate::tally::{Sides, Tally};
use crate::wait;

/// A running nginx.
#[derive(Debug)]
pub struct Nginx {
    process: Process,
    files: TempDir,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Killed, it would leave its workers behind.
        let _ = self.process.signal(Signal::SIGTERM);
        let _ = self.process.wait();
    }
}

/// One line of its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// `$request_method`.
    pub method: String,
    /// `$request_uri`.
    pub target: String,
    /// `$status`.
    pub status: String,
    /// `$request_length`: request line, header and body.
    pub request_length: u64,
    /// `$bytes_sent`: all that went to the client.
    pub bytes_sent: u64,
    /// `$body_bytes_sent`: chunk framing and interim answers included.
    pub body_bytes_sent: u64,
    /// `$content_length` of the request; 0 without.
    pub content_length: u64,
}

impl Nginx {
    /// Starts it on port 8080 of `namespace` (IPv4 and IPv6), with files of these names and sizes. What is posted to
    /// `/sink/...` is taken by a second server, on port 8099: a body that nginx itself throws away is not in its log.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(namespace: &Namespace, contents: &[(&str, usize)]) -> Result<Self> {
        let files = tempfile::tempdir()?;
        let root = files.path();
        let www = root.join("www");
        fs::create_dir_all(&www)?;
        for (name, size) in contents {
            let path = www.join(name);
            fs::create_dir_all(path.parent().context("a file in no folder")?)?;
            fs::write(path, pattern(*size))?;
        }
        fs::write(root.join("nginx.conf"), configuration(root))?;
        let err = fs::File::create(root.join("stderr"))?;
        let mut command = namespace.command("nginx");
        command.arg("-p").arg(root).arg("-c").arg(root.join("nginx.conf")).stderr(Stdio::from(err));
        let mut process = Process::start(&mut command)?;
        wait::until("nginx to listen", || {
            if let Some(status) = process.ended()? {
                let said = fs::read_to_string(root.join("stderr"))?;
                anyhow::bail!("nginx ended with {status}:\n{said}");
            }
            let connected = namespace.enter(|| Ok(std::net::TcpStream::connect("127.0.0.1:8099").is_ok()))?;
            Ok(connected.then_some(()))
        })?;
        Ok(Self { process, files })
    }

    /// The log, once it has `lines` lines.
    ///
    /// # Errors
    /// When it has another number after a minute.
    pub fn log(&self, lines: usize) -> Result<Vec<Line>> {
        let path: PathBuf = self.files.path().join("access.log");
        wait::until(&format!("{lines} lines in nginx' log"), || {
            let text = fs::read_to_string(&path)?;
            let found = text.lines().count();
            ensure!(found <= lines, "nginx' log has {found} lines, wanted {lines}");
            if found < lines || !text.ends_with('\n') {
                return Ok(None);
            }
            text.lines().map(line).collect::<Result<Vec<_>>>().map(Some)
        })
    }
}

impl Line {
    /// Adds this to a tally under `endpoint`. `response_body`: decoded, which the log does not know of a chunked answer.
    pub fn tally(&self, tally: &mut Tally, endpoint: &str, response_body: u64) {
        let sides =
            Sides { inbound: self.request_length, outbound: self.bytes_sent, request_body: self.content_length };
        tally.add(&self.method, endpoint, &self.status, sides, response_body);
    }
}

fn line(text: &str) -> Result<Line> {
    let fields: Vec<&str> = text.split(' ').collect();
    let [method, target, status, request_length, bytes_sent, body_bytes_sent, content_length] = fields[..] else {
        anyhow::bail!("nginx logged {text:?}");
    };
    Ok(Line {
        method: method.to_owned(),
        target: target.to_owned(),
        status: status.to_owned(),
        request_length: request_length.parse()?,
        bytes_sent: bytes_sent.parse()?,
        body_bytes_sent: body_bytes_sent.parse()?,
        content_length: if content_length == "-" { 0 } else { content_length.parse()? },
    })
}

/// Bytes that are not all the same.
fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|i| u8::try_from(i % 251).unwrap_or(0)).collect()
}

fn configuration(root: &Path) -> String {
    let root = root.display();
    format!(
        "daemon off; user root; worker_processes 2; pid {root}/pid; error_log {root}/error.log;
events {{ worker_connections 1024; }}
http {{
    log_format books '$request_method $request_uri $status $request_length $bytes_sent $body_bytes_sent $content_length';
    access_log off;
    client_body_temp_path {root}/body; proxy_temp_path {root}/proxy; fastcgi_temp_path {root}/fastcgi;
    uwsgi_temp_path {root}/uwsgi; scgi_temp_path {root}/scgi;
    client_max_body_size 0; keepalive_requests 1000000; large_client_header_buffers 4 64k;
    server {{
        listen 8080 backlog=4096; listen [::]:8080 backlog=4096; root {root}/www; access_log {root}/access.log books;
        location /sink {{ proxy_pass http://127.0.0.1:8099; proxy_http_version 1.1; }}
    }}
    server {{
        listen 8099 backlog=4096;
        location / {{ client_body_in_file_only off; client_body_buffer_size 64k; return 200 \"taken\\n\"; }}
    }}
}}
"
    )
}
