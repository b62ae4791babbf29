//! As much of the MySQL protocol as it takes to send prepared packets one behind the other, among them MariaDB's bulk
//! execution, without waiting for the answers in between.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;

use anyhow::{Context, bail};
use sqlx::mysql::MySqlConnectOptions;

const LONG_PASSWORD: u32 = 1;
const CONNECT_WITH_DB: u32 = 1 << 3;
const PROTOCOL_41: u32 = 1 << 9;
const TRANSACTIONS: u32 = 1 << 13;
const SECURE_CONNECTION: u32 = 1 << 15;
const MULTI_STATEMENTS: u32 = 1 << 16;
const MULTI_RESULTS: u32 = 1 << 17;
const PLUGIN_AUTH: u32 = 1 << 19;

/// MariaDB's own capabilities, of which a client without [`LONG_PASSWORD`] may have some.
const BULK_OPERATIONS: u32 = 1 << 2;

const UTF8MB4_GENERAL_CI: u8 = 45;
const MAX_PACKET: u32 = 0x00ff_ffff;
const MORE_RESULTS: u16 = 8;

/// The command COM_STMT_BULK_EXECUTE.
const BULK_EXECUTE: u8 = 0xfa;

/// A connection whose account has no password.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
    pub is_mariadb: bool,
    /// The server's numbers of the statements that were prepared, in this order.
    statements: Vec<[u8; 4]>,
}

impl Connection {
    pub fn open(options: &MySqlConnectOptions) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect((options.get_host(), options.get_port())).context("the database")?;
        stream.set_nodelay(true)?;
        let mut connection = Connection { stream: BufReader::new(stream), is_mariadb: false, statements: Vec::new() };
        let greeting = connection.packet()?;
        // Protocol version 10, and the server's version up to a zero.
        let version = greeting.get(1..).and_then(|rest| rest.split(|byte| *byte == 0).next()).unwrap_or_default();
        connection.is_mariadb = String::from_utf8_lossy(version).contains("MariaDB");

        let (own, extended) = if connection.is_mariadb { (0, BULK_OPERATIONS) } else { (LONG_PASSWORD, 0) };
        let capabilities = own
            | CONNECT_WITH_DB
            | PROTOCOL_41
            | TRANSACTIONS
            | SECURE_CONNECTION
            | MULTI_STATEMENTS
            | MULTI_RESULTS
            | PLUGIN_AUTH;
        let mut answer = Vec::new();
        answer.extend_from_slice(&capabilities.to_le_bytes());
        answer.extend_from_slice(&MAX_PACKET.to_le_bytes());
        answer.push(UTF8MB4_GENERAL_CI);
        answer.extend_from_slice(&[0; 19]);
        answer.extend_from_slice(&extended.to_le_bytes());
        answer.extend_from_slice(options.get_username().as_bytes());
        // The end of the name, and a password of no bytes.
        answer.extend_from_slice(&[0, 0]);
        answer.extend_from_slice(options.get_database().context("the URL names no database")?.as_bytes());
        answer.extend_from_slice(if connection.is_mariadb {
            b"\0mysql_native_password\0"
        } else {
            b"\0caching_sha2_password\0"
        });
        connection.send(&framed(1, &answer)?)?;
        match connection.packet()?.first() {
            Some(0) => Ok(connection),
            _ => bail!("the database does not let {} in without a password", options.get_username()),
        }
    }

    /// Sends packets as they are.
    fn send(&mut self, packets: &[u8]) -> anyhow::Result<()> {
        Ok(self.stream.get_mut().write_all(packets)?)
    }

    /// Sends packets at once. Bulk executions get this connection's number of their statement first.
    pub fn send_all(&mut self, packets: &mut [u8]) -> anyhow::Result<()> {
        let mut start = 0;
        while let Some([a, b, c, _, command, id @ ..]) =
            packets.get_mut(start..).and_then(|rest| rest.first_chunk_mut::<9>())
        {
            if *command == BULK_EXECUTE {
                *id = *self
                    .statements
                    .get(u32::from_le_bytes(*id) as usize)
                    .context("a statement that is not prepared")?;
            }
            start += 4 + u32::from_le_bytes([*a, *b, *c, 0]) as usize;
        }
        self.send(packets)
    }

    /// Reads the answer to a statement that gives no rows.
    pub fn done(&mut self) -> anyhow::Result<Answer> {
        let packet = self.packet()?;
        match packet.first() {
            Some(0) => {
                let mut rest = packet.get(1..).unwrap_or_default();
                for _ in 0..2 {
                    // Rows affected and the last inserted id, each of a length that its first byte tells.
                    let skip = match rest.first() {
                        Some(0xfc) => 3,
                        Some(0xfd) => 4,
                        Some(0xfe) => 9,
                        _ => 1,
                    };
                    rest = rest.get(skip..).context("an answer that is cut short")?;
                }
                let status = rest.first_chunk().map(|status| u16::from_le_bytes(*status)).unwrap_or_default();
                Ok(Answer { more: status & MORE_RESULTS != 0 })
            }
            Some(0xff) => bail!("the database says: {}", String::from_utf8_lossy(packet.get(3..).unwrap_or_default())),
            other => bail!("the database answers with {other:?}"),
        }
    }

    /// Runs statements that give no rows.
    pub fn run(&mut self, statements: &str) -> anyhow::Result<()> {
        self.send(&query(statements)?)?;
        while self.done()?.more {}
        Ok(())
    }

    /// Prepares the next statement.
    pub fn prepare(&mut self, statement: &str) -> anyhow::Result<()> {
        self.send(&framed(0, &[&[0x16], statement.as_bytes()].concat())?)?;
        let packet = self.packet()?;
        let [0, id @ .., _, _, low, high] = *packet.first_chunk::<9>().context("a short answer")? else {
            bail!("{statement}: {}", String::from_utf8_lossy(&packet));
        };
        // A packet for each parameter, and one that ends them.
        let parameters = u16::from_le_bytes([low, high]);
        for _ in 0..=parameters {
            self.packet()?;
        }
        self.statements.push(id);
        Ok(())
    }

    fn packet(&mut self) -> anyhow::Result<Vec<u8>> {
        let mut head = [0; 4];
        self.stream.read_exact(&mut head)?;
        let [a, b, c, _] = head;
        let mut packet = vec![0; u32::from_le_bytes([a, b, c, 0]) as usize];
        self.stream.read_exact(&mut packet)?;
        Ok(packet)
    }
}

/// The server's answer to a statement.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// The same packet held another statement, whose answer comes next.
    pub more: bool,
}

/// A packet with text statements.
pub fn query(statements: &str) -> anyhow::Result<Vec<u8>> {
    framed(0, &[&[0x03], statements.as_bytes()].concat())
}

fn framed(sequence: u8, payload: &[u8]) -> anyhow::Result<Vec<u8>> {
    let length = u32::try_from(payload.len())?;
    anyhow::ensure!(length < MAX_PACKET, "a packet of {length} bytes is too large; take fewer jobs per transaction");
    let [a, b, c, _] = length.to_le_bytes();
    Ok([&[a, b, c, sequence], payload].concat())
}

/// The type of a parameter.
#[derive(Clone, Copy, Debug)]
pub enum Type {
    Number,
    Bytes,
}

/// One execution of a statement for many rows.
#[derive(Debug)]
pub struct Bulk(Vec<u8>);

impl Bulk {
    /// `statement` is the place of a statement among those that every connection has prepared.
    pub fn of(statement: usize, types: &[Type]) -> Bulk {
        let mut packet = vec![BULK_EXECUTE];
        packet.extend_from_slice(&(statement as u32).to_le_bytes());
        // The types are told.
        packet.extend_from_slice(&128u16.to_le_bytes());
        for of in types {
            // An unsigned LONGLONG, or a BLOB.
            packet.extend_from_slice(match of {
                Type::Number => &[8, 0x80],
                Type::Bytes => &[0xfc, 0],
            });
        }
        Bulk(packet)
    }

    /// The next parameter of a row.
    pub fn number(&mut self, value: u64) -> &mut Self {
        self.0.push(0);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// The next parameter of a row.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.0.push(0);
        match u8::try_from(value.len()) {
            Ok(length) if length < 251 => self.0.push(length),
            _ => {
                self.0.push(0xfd);
                self.0.extend_from_slice(&(value.len() as u32).to_le_bytes()[..3]);
            }
        }
        self.0.extend_from_slice(value);
        self
    }

    /// The packet.
    pub fn packet(self) -> anyhow::Result<Vec<u8>> {
        framed(0, &self.0)
    }
}
