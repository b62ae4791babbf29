//! The list of cases, numbered as in the fault matrix.

mod alive;
mod broker;
mod database;
pub mod disk;
mod fleet;
mod handler;
mod input;
mod locks;
mod log;
mod long;
mod network;
mod process;
mod state;

use futures_util::future::LocalBoxFuture;

use crate::site::Site;

/// What a case does.
pub enum Subject {
    /// Breaks something, looks at what the daemon says, mends it. The invariants are proved afterwards.
    Case(Run),
    /// Why there is no case.
    Absent(&'static str),
}

type Run = for<'a> fn(&'a mut Site) -> LocalBoxFuture<'a, ()>;

pub struct Case {
    pub number: u32,
    pub name: &'static str,
    /// Part of every `cargo test`.
    pub is_fast: bool,
    pub subject: Subject,
}

fn case(number: u32, name: &'static str, run: Run) -> Case {
    let is_fast = [1, 2, 6, 13, 18, 22, 25, 28, 34, 44, 63, 67, 95].contains(&number);
    Case { number, name, is_fast, subject: Subject::Case(run) }
}

fn absent(number: u32, name: &'static str, why: &'static str) -> Case {
    Case { number, name, is_fast: false, subject: Subject::Absent(why) }
}

fn clock_jumps() -> Case {
    let (number, name) = (31, "daemon's clock wrong by up to an hour");
    match locks::fake_time() {
        Some(_) => case(number, name, |site| Box::pin(locks::clock_jumps(site))),
        None => absent(number, name, "libfaketime is not installed"),
    }
}

fn of_fleets() -> Vec<Case> {
    let clocks = "clocks wrong by an hour";
    vec![
        case(60, "owner killed, 20 times", |site| Box::pin(fleet::owner_killed(site))),
        case(61, "owner frozen for 5 s, then continued", |site| Box::pin(fleet::owner_frozen(site))),
        case(62, "owner frozen in a transaction", |site| Box::pin(fleet::cut_off::within_a_transaction(site))),
        case(63, "owner cut off from the database", |site| Box::pin(fleet::cut_off::from_database(site))),
        case(64, "owner cut off from the broker", |site| Box::pin(fleet::cut_off::from_broker(site))),
        case(65, "owner cut off from two lock nodes", |site| Box::pin(fleet::cut_off::from_quorum(site))),
        case(66, "two daemons that both believe to own", |site| Box::pin(fleet::both_believe(site))),
        case(67, "lease deleted, overwritten", |site| Box::pin(fleet::lease_overwritten(site))),
        match locks::fake_time() {
            Some(_) => case(68, clocks, |site| Box::pin(fleet::wrong_clocks(site))),
            None => absent(68, clocks, "libfaketime is not installed"),
        },
        case(69, "100 rolling restarts of three", |site| Box::pin(fleet::rolling_restarts(site))),
        case(70, "1, 4, 2, 1, 3, 1 daemons", |site| Box::pin(fleet::more_and_fewer(site))),
        case(71, "all killed, one started", |site| Box::pin(fleet::all_killed(site))),
        case(72, "servers away or stalled for 3 to 5 s", |site| Box::pin(fleet::servers_restarted(site))),
        case(73, "database stalled 3 s", |site| Box::pin(fleet::servers::database_stalled(site))),
        case(74, "database failover that lost commits", |site| Box::pin(disk::set_back_under(site, 2))),
        case(75, "broker failover that lost the last", |site| Box::pin(fleet::servers::broker_went_back(site))),
        case(76, "FLUSHALL, DEL under a fleet", |site| Box::pin(fleet::servers::emptied(site))),
        case(77, "ends refused by the broker, then killed", |site| {
            Box::pin(fleet::servers::acknowledgements_refused(site))
        }),
        case(78, "poison job in a fleet of three", |site| Box::pin(fleet::poison_in_a_fleet(site))),
        case(79, "foreign lock through take-overs", |site| Box::pin(fleet::servers::foreign_lock(site))),
        case(80, "owner's dispatcher stands still", |site| Box::pin(fleet::servers::wedged(site))),
        case(81, "one stream, four, one", |site| Box::pin(fleet::servers::streams_split_and_joined(site))),
        case(82, "from a version that shared the stream, and back", |site| Box::pin(fleet::upgrade::to_and_fro(site))),
        case(83, "reader of the log killed, 40 times", |site| Box::pin(log::reader_killed(site))),
        case(84, "reader frozen past its lease, then continued", |site| Box::pin(log::reader_frozen(site))),
        case(85, "subscription overwritten, dropped", |site| Box::pin(log::robbed(site))),
        case(86, "whoever fills a build killed, 20 times", |site| Box::pin(log::rebuild::filler_killed(site))),
        case(87, "what is shown switched, 100 times", |site| Box::pin(log::rebuild::switched_to_and_fro(site))),
        case(88, "programs that know a build and do not", |site| Box::pin(log::rebuild::programs_mixed(site))),
        case(89, "read models read for long", |site| Box::pin(log::rebuild::read_for_long(site))),
        case(95, "event that cannot be read", |site| Box::pin(log::poison(site))),
        case(96, "hole in the log", |site| Box::pin(log::hole(site))),
        // Number 70 once more.
        case(119, "1, 4, 2, 3, 2, 4, 1, 2 daemons that share four", |site| {
            Box::pin(fleet::spread::more_and_fewer(site))
        }),
    ]
}

pub fn all() -> Vec<Case> {
    let mut cases = vec![
        case(1, "killed in the handler", |site| Box::pin(process::killed_in_the_handler(site))),
        case(2, "killed between COMMIT and acknowledge", |site| Box::pin(process::killed_after_commit(site))),
        case(3, "killed while holding the lock", |site| Box::pin(process::killed_with_locks(site))),
        case(4, "frozen past the lock's life, then continued", |site| Box::pin(process::frozen(site))),
        case(5, "killed at random, 200 times", |site| Box::pin(process::killed_at_random(site))),
        case(6, "SIGTERM under load", |site| Box::pin(process::drained(site))),
        case(7, "SIGTERM, batch longer than the drain", |site| Box::pin(process::overrun(site))),
        case(8, "second SIGTERM", |site| Box::pin(process::second_signal(site))),
        case(9, "SIGTERM while a server is down", |site| Box::pin(process::drained_without_servers(site))),
        case(10, "handler panics, never returns", |site| Box::pin(handler::panics_and_hangs(site))),
        case(11, "no file descriptor left", |site| Box::pin(process::out_of_files(site))),
        case(12, "broker killed, restarted with AOF", |site| Box::pin(broker::killed(site))),
        case(13, "FLUSHALL, stream deleted", |site| Box::pin(broker::emptied(site))),
        case(14, "XGROUP DESTROY, DELCONSUMER", |site| Box::pin(broker::group_gone(site))),
        case(15, "XDEL of pending entries", |site| Box::pin(broker::pending_deleted(site))),
        case(16, "MAXLEN trim of unread entries", |site| Box::pin(broker::trimmed(site))),
        case(17, "broker frozen for 5 s and for 60 s", |site| Box::pin(broker::frozen(site))),
        case(18, "reply lost after acknowledge or dead letter", |site| Box::pin(network::broker_replies_lost(site))),
        case(19, "OOM, NOREPLICAS", |site| Box::pin(broker::writes_refused(site))),
        case(20, "READONLY, then master again", |site| Box::pin(broker::replica_for_a_while(site))),
        case(21, "maxclients, NOPERM, WRONGPASS", |site| Box::pin(broker::access_refused(site))),
        case(22, "latency, throttle, slices, RST mid-frame", |site| Box::pin(network::bad_lines(site))),
        case(23, "node that evicts, at start", |site| Box::pin(locks::evicting(site))),
        case(24, "1 of 3 nodes down", |site| Box::pin(locks::one_down(site))),
        case(25, "2 of 3 nodes down", |site| Box::pin(locks::two_down(site))),
        case(26, "1 node frozen, 1 down", |site| Box::pin(locks::one_frozen_one_down(site))),
        case(27, "2 nodes restarted empty within the ttl", |site| Box::pin(locks::restarted_empty(site))),
        case(28, "PEXPIRE 1 on 2 nodes", |site| Box::pin(locks::expired_early(site))),
        case(29, "extension fails in the midst of a batch", |site| Box::pin(locks::extension_fails(site))),
        case(30, "release reply lost, foreign value", |site| Box::pin(locks::foreign_values(site))),
        clock_jumps(),
        case(32, "100 clients on one aggregate", |site| Box::pin(locks::many_clients(site))),
        case(33, "database killed, restarted", |site| Box::pin(database::killed(site))),
        case(34, "connection killed at COMMIT, reply lost", |site| Box::pin(network::commit_replies_lost(site))),
        case(35, "lock wait, deadlock", |site| Box::pin(database::lock_wait_and_deadlock(site))),
        case(36, "version conflicts without a common lock", |site| Box::pin(database::conflicts(site))),
        case(37, "read_only", |site| Box::pin(database::read_only(site))),
        case(38, "too many connections", |site| Box::pin(database::too_many_connections(site))),
        case(39, "database frozen for 60 s, then stalled", |site| Box::pin(database::frozen(site))),
        case(40, "database's disk full", |site| Box::pin(disk::full(site))),
        case(41, "payload over max_allowed_packet", |site| Box::pin(database::large_packet(site))),
        case(42, "schema missing or newer, INSERT not granted", |site| Box::pin(database::unfit(site))),
        case(43, "failover that lost commits", |site| Box::pin(disk::set_back(site))),
        case(44, "malformed jobs", |site| Box::pin(input::malformed(site))),
        case(45, "hostile JSON", |site| Box::pin(input::hostile(site))),
        case(46, "64 MiB payload, backlog", |site| Box::pin(input::large(site))),
        case(47, "poison job kills the process", |site| Box::pin(process::poison(site))),
        case(48, "hostile keys", |site| Box::pin(input::keys(site))),
        case(49, "ANSI and newlines", |site| Box::pin(input::injection(site))),
        case(50, "10 000 job types", |site| Box::pin(input::many_types(site))),
        // Not of the matrix: what must hold for long.
        case(101, "two daemons restarted in turn, 100 times", |site| Box::pin(long::restarted_in_turn(site))),
        case(102, "no database for 60 s", |site| Box::pin(long::minute_without_database(site))),
        // Servers that are alive and wrong.
        case(110, "database switched, old primary alive", |site| Box::pin(alive::database_switched(site))),
        case(111, "database's open connections silent", |site| Box::pin(alive::database_silent(site))),
        case(112, "broker's open connections silent", |site| Box::pin(alive::broker_silent(site))),
        case(113, "broker switched, old master alive", |site| Box::pin(alive::broker_switched(site))),
        case(114, "sessions that begin with the worst settings", |site| Box::pin(alive::hostile_sessions(site))),
        case(115, "sequence row gone, then behind the log", |site| Box::pin(state::sequence_wrong(site))),
        case(116, "a key name refused while running", |site| Box::pin(state::key_refused(site))),
        case(117, "entries that are in no list", |site| Box::pin(state::orphaned(site))),
        case(118, "refused reply streams beside good ones", |site| Box::pin(state::replies_refused(site))),
    ];
    cases.extend(of_fleets());
    // 51 and 52 of the matrix are 86 and 87, 53 holds by construction, 54 is 95.
    cases.push(absent(55, "admin", "no admin yet"));
    cases.sort_by_key(|case| case.number);
    cases
}
