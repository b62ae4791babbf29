//! The one way to write to standard output and standard error, for every command.
//!
//! A reader that has seen enough, as `head` has, ends a command without a fuss. Whatever else keeps the output from being
//! written, such as a full device, is told, with an exit code of its own. Standard error has nobody left to be told.

use std::fmt::Display;
use std::io::{self, BufWriter, ErrorKind, Write};

use super::failed::Failed;
use crate::exit::Exit;

/// Why the output ended.
#[derive(Debug, thiserror::Error)]
pub enum Unwritten {
    /// Its reader has closed it.
    #[error("nobody reads the output any more")]
    Closed,
    /// The system does not take it.
    #[error("the output cannot be written: {0}")]
    Failed(io::Error),
}

impl From<io::Error> for Unwritten {
    fn from(error: io::Error) -> Self {
        if error.kind() == ErrorKind::BrokenPipe { Self::Closed } else { Self::Failed(error) }
    }
}

impl From<Unwritten> for Failed {
    fn from(why: Unwritten) -> Self {
        match why {
            Unwritten::Closed => Self::new(Exit::OK, ""),
            Unwritten::Failed(_) => Self::new(Exit::OUTPUT, why),
        }
    }
}

/// What commands with servers of their own fail with: those, or the output.
impl From<anyhow::Error> for Failed {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<Unwritten>() {
            Ok(why) => why.into(),
            Err(error) => Self::new(Exit::UNAVAILABLE, format!("{error:#}")),
        }
    }
}

/// Prints a line of a command that only shows something: it ends with its reader.
pub(super) fn line(text: impl Display) -> Result<(), Unwritten> {
    lines([text])
}

/// Prints lines like [`line()`], with few calls of the system however many there are.
pub(super) fn lines(texts: impl IntoIterator<Item = impl Display>) -> Result<(), Unwritten> {
    write_lines(io::stdout().lock(), texts)
}

/// Prints a line of a command that changes or judges something: it goes on to its end, and to its exit code, also when its
/// reader has gone.
pub fn told(text: impl Display) -> Result<(), Unwritten> {
    match line(text) {
        Err(Unwritten::Closed) => Ok(()),
        written => written,
    }
}

/// Prints a line to standard error. When that cannot be written either, there is nobody to tell.
pub fn notice(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

fn write_lines(output: impl Write, texts: impl IntoIterator<Item = impl Display>) -> Result<(), Unwritten> {
    let mut output = BufWriter::new(output);
    for text in texts {
        writeln!(output, "{text}")?;
    }
    Ok(output.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes and then fails like this.
    struct Device(usize, ErrorKind);

    impl Write for Device {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            let taken = data.len().min(self.0);
            self.0 -= taken;
            if taken == 0 { Err(self.1.into()) } else { Ok(taken) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_is_not_written_is_an_error_also_when_it_is_the_last_byte() {
        let code = |room, kind| write_lines(Device(room, kind), ["ab", "c"]).map_err(|why| Failed::from(why).code);
        assert_eq!(code(5, ErrorKind::StorageFull), Ok(()));
        assert_eq!(code(4, ErrorKind::StorageFull), Err(Exit::OUTPUT));
        assert_eq!(code(4, ErrorKind::BrokenPipe), Err(Exit::OK));
        let long = vec!["a line"; 100_000];
        assert!(matches!(write_lines(Device(9, ErrorKind::BrokenPipe), long), Err(Unwritten::Closed)));
    }
}
