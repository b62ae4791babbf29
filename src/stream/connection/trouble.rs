//! What an error of the broker means. Told by its code, never by its text. Pure.

use redis::{ErrorKind, RedisError};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::stream) enum Trouble {
    /// The stream or its group is gone.
    GroupGone,
    /// The broker does not accept our name or password.
    LoggedOut,
    /// The broker knows us, and we lack a right.
    Forbidden,
    /// What answers cannot be written to: a replica, a server that loads or has lost its replicas, another part of a cluster.
    WrongServer,
    /// No answer came in time.
    Silent,
    /// The connection is lost, or out of step.
    Lost,
    /// Anything else that the broker refuses.
    Refused,
}

impl Trouble {
    /// What `error` means.
    pub fn of(error: &RedisError) -> Self {
        match (error.code(), error.kind()) {
            (Some(code), _) => Self::of_code(code),
            // Also what a broker answers that has too many clients: the library asks for nothing before the login.
            (None, ErrorKind::AuthenticationFailed) => Self::LoggedOut,
            (None, _) if error.is_timeout() => Self::Silent,
            (None, ErrorKind::Io | ErrorKind::Parse) => Self::Lost,
            (None, _) => Self::Refused,
        }
    }

    /// What an answer with this code means.
    pub fn of_code(code: &str) -> Self {
        match code {
            "NOGROUP" => Self::GroupGone,
            "NOAUTH" | "WRONGPASS" => Self::LoggedOut,
            "NOPERM" => Self::Forbidden,
            // UNBLOCKED ends a blocked read when the server's role changes, and before Redis 7.2 also when the stream is
            // deleted: then the next read says NOGROUP.
            "READONLY" | "MASTERDOWN" | "LOADING" | "CLUSTERDOWN" | "MOVED" | "ASK" | "TRYAGAIN" | "NOREPLICAS"
            | "MISCONF" | "UNBLOCKED" => Self::WrongServer,
            _ => Self::Refused,
        }
    }

    /// Whether the connection is of no use any more. The next one may lead to another server.
    pub fn ends_connection(self) -> bool {
        match self {
            Self::LoggedOut | Self::WrongServer | Self::Silent | Self::Lost => true,
            Self::GroupGone | Self::Forbidden | Self::Refused => false,
        }
    }

    /// The kind in a word, for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GroupGone => "group_gone",
            Self::LoggedOut | Self::Forbidden => "denied",
            Self::WrongServer => "wrong_server",
            Self::Silent => "timeout",
            Self::Lost => "away",
            Self::Refused => "refused",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use redis::ServerErrorKind;

    use super::*;

    #[test]
    fn each_code_says_what_is_wrong_and_whether_the_connection_is_of_use() {
        let cases = [
            ("NOGROUP", Trouble::GroupGone, false),
            ("NOAUTH", Trouble::LoggedOut, true),
            ("WRONGPASS", Trouble::LoggedOut, true),
            ("NOPERM", Trouble::Forbidden, false),
            ("READONLY", Trouble::WrongServer, true),
            ("MASTERDOWN", Trouble::WrongServer, true),
            ("LOADING", Trouble::WrongServer, true),
            ("CLUSTERDOWN", Trouble::WrongServer, true),
            ("MOVED", Trouble::WrongServer, true),
            ("ASK", Trouble::WrongServer, true),
            ("TRYAGAIN", Trouble::WrongServer, true),
            ("NOREPLICAS", Trouble::WrongServer, true),
            ("MISCONF", Trouble::WrongServer, true),
            ("UNBLOCKED", Trouble::WrongServer, true),
            ("ERR", Trouble::Refused, false),
            ("WRONGTYPE", Trouble::Refused, false),
            ("OOM", Trouble::Refused, false),
            ("BUSY", Trouble::Refused, false),
            ("CROSSSLOT", Trouble::Refused, false),
            ("NOSCRIPT", Trouble::Refused, false),
        ];
        for (code, trouble, ends) in cases {
            assert_eq!(Trouble::of_code(code), trouble, "{code}");
            assert_eq!(trouble.ends_connection(), ends, "{code}");
        }
    }

    #[test]
    fn an_error_without_a_code_is_told_by_its_kind() {
        let of = |error: RedisError| Trouble::of(&error);
        assert_eq!(of(io::Error::from(io::ErrorKind::TimedOut).into()), Trouble::Silent);
        assert_eq!(of(io::Error::from(io::ErrorKind::BrokenPipe).into()), Trouble::Lost);
        assert_eq!(of((ErrorKind::Parse, "nonsense").into()), Trouble::Lost);
        assert_eq!(of((ErrorKind::AuthenticationFailed, "no").into()), Trouble::LoggedOut);
        assert_eq!(of((ErrorKind::UnexpectedReturnType, "a map").into()), Trouble::Refused);
        assert_eq!(of((ErrorKind::Server(ServerErrorKind::ReadOnly), "no").into()), Trouble::WrongServer);
        let text = "the NOGROUP of this text, which no longer exists, is none";
        assert_eq!(of((ErrorKind::Server(ServerErrorKind::ResponseError), text).into()), Trouble::Refused);
    }
}
