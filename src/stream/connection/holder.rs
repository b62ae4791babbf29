//! The connection that everybody shares: one task holds it, minds it, and dials the next one when it is of no use any more.
//!
//! Each connection is a generation with a number. It ends with whatever shows that it leads to the wrong place or nowhere: an
//! I/O error, silence, an answer that says "not here", a server that is no master any more. All that waits for an answer of it
//! then fails at once, and so does the reader, which belongs to the same generation: the two never sit on different servers.
//! The next generation is dialled in the task and not in anybody's way, and shows that it can be written to before it is used.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult, Value};
use tokio::sync::{mpsc, watch};

use super::dial::{Dialled, dial, judge_role, role};
use super::trouble::Trouble;
use crate::job::Server;
use crate::stream::settings::Settings;

/// Time between two looks at whether the connection is alive and its server still a master.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// A connection that does not answer a look for so long is silent.
const SILENCE: Duration = Duration::from_millis(1500);
/// How long a caller waits while there is no connection.
const WAIT: Duration = Duration::from_secs(1);
/// Pauses between two attempts to connect.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// One connection, from its first use to its end.
#[derive(Clone)]
pub(in crate::stream) struct Generation {
    pub number: u64,
    pub run_id: Option<Arc<str>>,
    connection: MultiplexedConnection,
    /// When it last answered anything.
    heard: watch::Sender<Instant>,
    /// Why it has ended, once it has. A generation that was merely followed by another has no end: it is used up.
    end: watch::Sender<Option<RedisError>>,
}

impl Generation {
    fn new(number: u64, Dialled { connection, run_id }: Dialled) -> Self {
        Self { number, run_id, connection, heard: watch::Sender::new(Instant::now()), end: watch::Sender::new(None) }
    }

    /// The server that it leads to.
    pub fn server(&self) -> Server {
        Server { connection: self.number, run_id: self.run_id.clone() }
    }

    /// Waits for its end, and says why it came.
    pub async fn ended(&self) -> RedisError {
        let mut end = self.end.subscribe();
        match end.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(why)) => why.clone(),
            _ => std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into(),
        }
    }
}

/// What there is at the moment.
#[derive(Clone)]
enum Stage {
    Up(Generation),
    /// The last attempt failed, or the last generation ended, with this.
    Down(RedisError),
}

/// What the task is told.
enum Order {
    /// This generation is of no use, for this reason.
    End(u64, RedisError),
    /// Begin a new one, though nothing is wrong with the present one.
    Retire,
}

/// A handle of the shared connection. The task ends with the last of them.
#[derive(Clone)]
pub(in crate::stream) struct Holder {
    stage: watch::Receiver<Stage>,
    orders: mpsc::UnboundedSender<Order>,
    /// What is asked is meant for this server, and fails when there is another one.
    only: Option<Server>,
}

impl Holder {
    /// Connects once, so that whoever starts hears why it is not possible; from then on connections are replaced by themselves.
    pub async fn start(client: redis::Client, settings: Arc<Settings>) -> RedisResult<Self> {
        let first = Generation::new(1, dial(&client, &settings, Duration::ZERO).await?);
        let (stage, stages) = watch::channel(Stage::Up(first.clone()));
        let (sender, orders) = mpsc::unbounded_channel();
        tokio::spawn(Task { client, settings, stage, orders }.run(first));
        Ok(Self { stage: stages, orders: sender, only: None })
    }

    /// The same, for what is meant for one server.
    pub fn bound_to(&self, server: Option<&Server>) -> Self {
        Self { only: server.cloned(), ..self.clone() }
    }

    /// The present generation, as soon as there is one. Fails with the reason for which there is none.
    pub async fn current(&self) -> RedisResult<Generation> {
        let mut stage = self.stage.clone();
        let up = stage.wait_for(|stage| matches!(stage, Stage::Up(_)));
        if let Ok(Ok(up)) = tokio::time::timeout(WAIT, up).await
            && let Stage::Up(generation) = &*up
        {
            return Ok(generation.clone());
        }
        match &*self.stage.borrow() {
            Stage::Up(generation) => Ok(generation.clone()),
            Stage::Down(why) => Err(why.clone()),
        }
    }

    /// Whether the generation with this number is the present one.
    pub fn is_current(&self, number: u64) -> bool {
        matches!(&*self.stage.borrow(), Stage::Up(generation) if generation.number == number)
    }

    /// Ends the generation if this error of it means that it is of no use.
    pub fn judge(&self, number: u64, error: &RedisError) {
        if Trouble::of(error).ends_connection() {
            self.end(number, error.clone());
        }
    }

    /// Ends the generation.
    pub fn end(&self, number: u64, why: RedisError) {
        // A task that is gone went with the runtime.
        let _ = self.orders.send(Order::End(number, why));
    }

    /// Replaces the connection by a new one to the same server. Requests under way are answered by the old one.
    pub fn retire(&self) {
        let _ = self.orders.send(Order::Retire);
    }

    /// Has a request answered, unless the generation ends before.
    async fn ask<T>(
        &self,
        request: impl AsyncFnOnce(MultiplexedConnection) -> RedisResult<T>,
        trouble: impl Fn(&T) -> Option<RedisError>,
    ) -> RedisResult<T> {
        let generation = self.current().await?;
        if self.only.as_ref().is_some_and(|only| !only.is(&generation.server())) {
            return Err(moved());
        }
        let answer = tokio::select! {
            biased;
            answer = request(generation.connection.clone()) => answer,
            why = generation.ended() => return Err(why),
        };
        if answer.as_ref().map_or_else(|error| error.code().is_some(), |_| true) {
            generation.heard.send_replace(Instant::now());
        }
        match &answer {
            Ok(answer) => trouble(answer).iter().for_each(|error| self.judge(generation.number, error)),
            Err(error) => self.judge(generation.number, error),
        }
        answer
    }
}

impl ConnectionLike for Holder {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        let refused = |answer: &Value| refusal(answer);
        Box::pin(self.ask(async |mut connection| connection.send_packed_command(command).await, refused))
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        let request = async move |mut connection: MultiplexedConnection| {
            connection.send_packed_commands(pipeline, offset, count).await
        };
        let worst = |answers: &Vec<Value>| {
            answers.iter().filter_map(refusal).find(|error| Trouble::of(error).ends_connection())
        };
        Box::pin(self.ask(request, worst))
    }

    fn get_db(&self) -> i64 {
        match &*self.stage.borrow() {
            Stage::Up(generation) => generation.connection.get_db(),
            Stage::Down(_) => 0,
        }
    }
}

fn refusal(answer: &Value) -> Option<RedisError> {
    match answer {
        Value::ServerError(error) => Some(error.clone().into()),
        _ => None,
    }
}

/// What the task does next.
enum Turn {
    Ended(RedisError),
    Retired,
    /// Nobody needs a connection any more.
    Dismissed,
}

struct Task {
    client: redis::Client,
    settings: Arc<Settings>,
    stage: watch::Sender<Stage>,
    orders: mpsc::UnboundedReceiver<Order>,
}

impl Task {
    async fn run(mut self, mut current: Generation) {
        let mut retires = false;
        loop {
            let next = current.number + 1;
            current = match self.mind(&current, std::mem::take(&mut retires)).await {
                Turn::Dismissed => return,
                Turn::Ended(why) => {
                    tracing::warn!(error = %why, "the connection to the broker is of no use and is replaced");
                    self.stage.send_replace(Stage::Down(why.clone()));
                    current.end.send_replace(Some(why));
                    let Some(dialled) = self.replace().await else { return };
                    tracing::info!("there is a connection to the broker again");
                    Generation::new(next, dialled)
                }
                Turn::Retired => match dial(&self.client, &self.settings, Duration::ZERO).await {
                    Ok(dialled) => {
                        let fresh = Generation::new(next, dialled);
                        if fresh.run_id != current.run_id {
                            current.end.send_replace(Some(moved()));
                        }
                        fresh
                    }
                    // The present one is as good as it was, until the next attempt.
                    Err(_) => {
                        retires = true;
                        continue;
                    }
                },
            };
            self.stage.send_replace(Stage::Up(current.clone()));
        }
    }

    /// Looks after a generation until something is to be done about it; one that `retires` does so after a pause.
    async fn mind(&mut self, generation: &Generation, retires: bool) -> Turn {
        let look = watch_over(generation.connection.clone(), generation.heard.subscribe());
        let retirement = tokio::time::sleep(LONGEST_PAUSE);
        tokio::pin!(look, retirement);
        loop {
            tokio::select! {
                why = &mut look => return Turn::Ended(why),
                () = &mut retirement, if retires => return Turn::Retired,
                order = self.orders.recv() => match order {
                    None => return Turn::Dismissed,
                    Some(Order::End(number, why)) if number == generation.number => return Turn::Ended(why),
                    // It has ended already.
                    Some(Order::End(..)) => {}
                    Some(Order::Retire) => return Turn::Retired,
                },
            }
        }
    }

    /// Tries until there is a connection to a writable master; `None` when nobody needs one any more.
    async fn replace(&mut self) -> Option<Dialled> {
        let mut pause = SHORTEST_PAUSE;
        loop {
            let (client, settings) = (self.client.clone(), self.settings.clone());
            match self.meanwhile(async move { dial(&client, &settings, Duration::ZERO).await }).await? {
                Ok(dialled) => return Some(dialled),
                Err(why) => drop(self.stage.send_replace(Stage::Down(why))),
            }
            // Between half and all of it, so that a fleet does not come back at one moment.
            self.meanwhile(tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..=1.0)))).await?;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Waits for `event`, there being no connection; `None` when nobody needs one any more.
    async fn meanwhile<T>(&mut self, event: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(event);
        loop {
            tokio::select! {
                outcome = &mut event => return Some(outcome),
                order = self.orders.recv() => drop(order?),
            }
        }
    }
}

/// Asks every moment whether the server is there and still a master, and returns why not.
async fn watch_over(mut connection: MultiplexedConnection, heard: watch::Receiver<Instant>) -> RedisError {
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let since = Instant::now();
        let look = async { judge_role(role(&mut connection).await?) };
        match tokio::time::timeout(SILENCE, look).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => return why,
            // This process was not running itself; what the server has said meanwhile is read next time.
            Err(_) if since.elapsed() > SILENCE * 2 => {}
            // A slow line on which other answers came first.
            Err(_) if heard.borrow().elapsed() < SILENCE => {}
            Err(_) => return std::io::Error::from(std::io::ErrorKind::TimedOut).into(),
        }
    }
}

/// Two connections lead to two servers.
pub(in crate::stream) fn moved() -> RedisError {
    (ErrorKind::Io, "a new connection leads to another server than the one before").into()
}
