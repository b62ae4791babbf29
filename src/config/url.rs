//! The pieces of a server's URL, and what makes it usable.
//!
//! The clients parse URLs themselves. This cuts where they cut, so that a mistake is told at start with its key's
//! name, and so that a password can be masked even in a URL they would refuse.

/// The pieces of `scheme://user@host:port/path?query#fragment`.
pub(super) struct Pieces<'a> {
    pub(super) scheme: &'a str,
    pub(super) user: Option<&'a str>,
    pub(super) host: &'a str,
    pub(super) port: Option<&'a str>,
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
    pub(super) fragment: Option<&'a str>,
}

impl<'a> Pieces<'a> {
    /// Cuts `url`, or `None` when it cannot be told for certain which part is the password: an `@` after the host, or
    /// a port that is no number, is most often a password with a reserved character in it.
    pub(super) fn cut(url: &'a str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let scheme_is_sound = !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+');
        let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (user, address) = match authority.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, authority),
        };
        let (host, port) = split_address(address)?;
        if !scheme_is_sound || tail.contains('@') || port.is_some_and(|port| port.parse::<u16>().is_err()) {
            return None;
        }
        let (tail, fragment) = split_off(tail, '#');
        let (path, query) = split_off(tail, '?');
        Some(Pieces { scheme, user, host, port, path, query, fragment })
    }

    fn is_socket(&self) -> bool {
        matches!(self.scheme, "unix" | "redis+unix")
    }

    fn has_parameter(&self, name: &str) -> bool {
        let names = self.query.into_iter().flat_map(|query| query.split('&'));
        names.filter_map(|pair| pair.split_once('=')).any(|(found, value)| found == name && !value.is_empty())
    }
}

/// Host and port; an IPv6 host keeps its brackets.
fn split_address(address: &str) -> Option<(&str, Option<&str>)> {
    let end_of_host =
        if address.starts_with('[') { address.find(']')? + 1 } else { address.find(':').unwrap_or(address.len()) };
    match address.split_at(end_of_host) {
        (host, "") => Some((host, None)),
        (host, port) => port.strip_prefix(':').map(|port| (host, Some(port))),
    }
}

fn split_off(text: &str, mark: char) -> (&str, Option<&str>) {
    text.split_once(mark).map_or((text, None), |(before, after)| (before, Some(after)))
}

const UNCLEAR: &str = "must be scheme://user:password@host:port/…; in a password, write / ? # @ : and % as %2F %3F %23 \
                       %40 %3A and %25";
const WHITE_SPACE: &str = "must not contain white space or control characters";

fn cut_soundly<'a>(url: &'a str, schemes: &[&str], wrong_scheme: &'static str) -> Result<Pieces<'a>, &'static str> {
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    if !scheme.is_some_and(|scheme| schemes.contains(&scheme)) {
        return Err(wrong_scheme);
    }
    if url.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(WHITE_SPACE);
    }
    Pieces::cut(url).ok_or(UNCLEAR)
}

/// What is wrong with a database URL.
pub(super) fn check_database(url: &str) -> Result<(), &'static str> {
    let pieces = cut_soundly(url, &["mysql", "mariadb"], "must start with mysql:// or mariadb://")?;
    if pieces.host.is_empty() && !pieces.has_parameter("socket") {
        return Err("must name a host");
    }
    match pieces.path.strip_prefix('/') {
        None | Some("") => Err("must end in the name of a database, as in mysql://user@host:3306/lockkeeper"),
        Some(name) if name.contains('/') => Err("must name one database, without a / in it"),
        Some(_) => Ok(()),
    }
}

/// What is wrong with a Redis URL.
pub(super) fn check_redis(url: &str) -> Result<(), &'static str> {
    let schemes = ["redis", "rediss", "redis+unix", "unix"];
    let pieces = cut_soundly(url, &schemes, "must start with redis://, rediss:// or redis+unix://")?;
    if pieces.is_socket() {
        let has_path = pieces.host.is_empty() && pieces.path.len() > 1;
        return if has_path { Ok(()) } else { Err("must name a socket, as in redis+unix:///run/redis.sock") };
    }
    if pieces.host.is_empty() {
        return Err("must name a host");
    }
    match pieces.path.trim_matches('/') {
        "" => Ok(()),
        number if number.parse::<u16>().is_ok() => Ok(()),
        _ => Err("must have a database number or nothing after the host, as in redis://host:6379/0"),
    }
}

/// The same text for every spelling of the same Redis database.
pub(super) fn redis_identity(url: &str) -> Option<String> {
    let pieces = Pieces::cut(url)?;
    if pieces.is_socket() {
        return Some(pieces.path.to_owned());
    }
    let host = pieces.host.to_lowercase();
    let port = pieces.port.unwrap_or("6379");
    let database = pieces.path.trim_matches('/').parse::<u16>().unwrap_or(0);
    Some(format!("{host}:{port}/{database}"))
}
