//! A URL that may hold a password, and can be printed all the same.

use std::fmt;

use super::url::Pieces;

/// What stands in place of a password.
const MASK: &str = "***";

/// Query parameters whose values may be shown. It is a list of the harmless ones, because nobody can list all names
/// under which a client takes a password.
const HARMLESS: &[&str] =
    &["db", "user", "protocol", "socket", "ssl-mode", "sslmode", "ssl-ca", "sslca", "charset", "collation", "timezone"];

/// A URL with, possibly, a password. `Debug` and `Display` print it with `***` in place of whatever may be secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a URL into custody.
    pub fn new(url: impl Into<String>) -> Self {
        Secret(url.into())
    }

    /// The whole URL, for the client that connects with it and for nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact(&self.0))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", redact(&self.0))
    }
}

fn redact(url: &str) -> String {
    let Some(pieces) = Pieces::cut(url) else {
        return MASK.to_owned();
    };
    let mut text = format!("{}://", pieces.scheme);
    if let Some(user) = pieces.user {
        text += &redact_user(pieces.scheme, user);
        text.push('@');
    }
    text += pieces.host;
    if let Some(port) = pieces.port {
        text.push(':');
        text += port;
    }
    text += pieces.path;
    if let Some(query) = pieces.query {
        text.push('?');
        text += &query.split('&').map(redact_parameter).collect::<Vec<_>>().join("&");
    }
    if let Some(fragment) = pieces.fragment {
        text.push('#');
        text += if fragment == "insecure" { fragment } else { MASK };
    }
    text
}

/// A lone name is a user for MySQL, but `redis-cli` takes it for the password.
fn redact_user(scheme: &str, user: &str) -> String {
    match user.split_once(':') {
        Some((name, _)) => format!("{name}:{MASK}"),
        None if scheme.starts_with("redis") => MASK.to_owned(),
        None => user.to_owned(),
    }
}

fn redact_parameter(pair: &str) -> String {
    match pair.split_once('=') {
        Some((name, _)) if HARMLESS.contains(&name) => pair.to_owned(),
        Some((name, _)) => format!("{name}={MASK}"),
        None => MASK.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_masked_and_the_rest_stays_readable() {
        let cases = [
            ("mysql://root@db/shop", "mysql://root@db/shop"),
            ("mysql://root:canary@db:3306/shop", "mysql://root:***@db:3306/shop"),
            ("mysql://root:can@ary@db/shop", "mysql://root:***@db/shop"),
            (
                "mysql://root@db/shop?ssl-mode=REQUIRED&password=canary",
                "mysql://root@db/shop?ssl-mode=REQUIRED&password=***",
            ),
            ("redis://[::1]:6379/2", "redis://[::1]:6379/2"),
            ("rediss://:canary@host", "rediss://:***@host"),
            ("redis://canary@host", "redis://***@host"),
            ("redis+unix:///run/r.sock?db=1&user=me&pass=canary", "redis+unix:///run/r.sock?db=1&user=me&pass=***"),
            ("redis://host/0#canary", "redis://host/0#***"),
            ("redis://host?canary", "redis://host?***"),
        ];
        for (url, printed) in cases {
            assert_eq!(Secret::new(url).to_string(), printed);
            assert_eq!(format!("{:?}", Secret::new(url)), format!("\"{printed}\""));
            assert_eq!(Secret::new(url).expose(), url);
        }
    }

    #[test]
    fn what_cannot_be_cut_for_certain_is_not_shown_at_all() {
        let urls = [
            "canary",
            "",
            "user:canary@host",
            "mysql://user:canary/db",
            "mysql://user:can/ary@host/db",
            "mysql://user:can?ary@host/db",
            "redis://:can#ary@host",
            "redis://host?password=can@ary",
            "redis://[canary",
            "redis://[::1]canary",
            "user:canary://host",
        ];
        for url in urls {
            assert_eq!(Secret::new(url).to_string(), "***", "{url}");
        }
    }
}
