//! Clients for the servers that the configuration names.

use std::path::{Path, PathBuf};
use std::time::Duration;

use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::TcpKeepalive;
use redis::{Client, ClientTlsConfig, IntoConnectionInfo, RedisError, TlsCertificates};

use crate::config::{Secret, Tls};
use crate::lock::NodeAddress;

/// A client could not be made: a URL or a certificate file is wrong.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The file cannot be read.
    #[error("{key}: {} cannot be read: {source}", path.display())]
    File {
        /// The key that names the file.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The URL, or what the certificate files hold.
    #[error("{key}: {source}")]
    Client {
        /// The key that holds the URL.
        key: String,
        /// Why.
        source: RedisError,
    },
}

/// A client for the broker. Nothing is connected yet.
pub fn broker(url: &Secret, tls: &Tls) -> Result<Client, ClientError> {
    client("stream.url", url, tls)
}

/// Addresses of the lock nodes, named `redis1`, `redis2` … in their order.
pub fn lock_nodes(urls: &[Secret], tls: &Tls) -> Result<Vec<NodeAddress>, ClientError> {
    let address = |(index, url): (usize, &Secret)| {
        let name = node_name(index + 1);
        let client = client(&format!("lock.nodes, {name}"), url, tls)?;
        Ok(NodeAddress { name, client })
    };
    urls.iter().enumerate().map(address).collect()
}

/// What the `number`th lock node is called, counted from 1.
pub fn node_name(number: usize) -> String {
    format!("redis{number}")
}

/// Certificates are verified always: against `tls.ca_file` when it is given, else against the system's roots.
fn client(key: &str, url: &Secret, tls: &Tls) -> Result<Client, ClientError> {
    let wrong = |source| ClientError::Client { key: key.to_owned(), source };
    let info = url.expose().into_connection_info().map_err(wrong)?;
    let info = info.set_tcp_settings(tcp_settings());
    if !url.expose().starts_with("rediss://") {
        return Client::open(info).map_err(wrong);
    }
    let client_tls = match (&tls.cert_file, &tls.key_file) {
        (Some(cert), Some(key)) => {
            Some(ClientTlsConfig { client_cert: read("tls.cert_file", cert)?, client_key: read("tls.key_file", key)? })
        }
        _ => None,
    };
    let root_cert = tls.ca_file.as_deref().map(|path| read("tls.ca_file", path)).transpose()?;
    Client::build_with_tls(info, TlsCertificates { client_tls, root_cert }).map_err(wrong)
}

/// Commands are small and answers are waited for. The kernel closes a connection whose other end has vanished; whoever uses it
/// notices earlier, but for one that is idle.
fn tcp_settings() -> TcpSettings {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_TIME).with_interval(KEEPALIVE_INTERVAL).with_retries(3);
    let settings = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(USER_TIMEOUT);
    settings
}

const KEEPALIVE_TIME: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(3);
/// How long what was sent may be without an acknowledgement of the other end's kernel.
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_secs(5);

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, ClientError> {
    std::fs::read(path).map_err(|source| ClientError::File { key, path: path.to_owned(), source })
}
