//! The daemons of the fleet that could do the work: each writes itself down, beside the first stream, when it has shown that it can.
//!
//! It is a courtesy: for whoever cannot do it any more, for people, and for nothing that has to be right.

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::Duration;

use redis::Script;

use super::connection::BrokerError;
use super::keys::fleet;
use super::lease::LeaseLine;

/// How long a daemon is one of the fleet after it was written down last.
const LIFETIME: Duration = Duration::from_secs(5);

/// Writes a daemon down, unless its text is empty, strikes out whoever has not been written down for long, and lists the others with
/// the milliseconds since. The broker's clock may be set: what lies ahead of it is struck out too. KEYS: fleet. ARGV: id, text, lifetime.
pub(super) static ENLIST: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local time = redis.call('TIME')
        local now = time[1] * 1000 + math.floor(time[2] / 1000)
        if ARGV[2] ~= '' then redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now) .. ' ' .. ARGV[2]) end
        local all, there = redis.call('HGETALL', KEYS[1]), {}
        for i = 1, #all, 2 do
            local at, text = string.match(all[i + 1], '^(%d+) (.*)$')
            local age = now - (tonumber(at) or 0)
            if at and age >= 0 and age <= tonumber(ARGV[3]) then
                there[#there + 1] = {all[i], age, text}
            else
                redis.call('HDEL', KEYS[1], all[i])
            end
        end
        return there",
    )
});

/// Which jobs a daemon knows: each type, with the newest version of its data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skills(BTreeSet<String>, u16);

/// Among its skills: it compares the generation of read models' builds with what it writes. Earlier releases do not, and name no such job.
const COMPARES_GENERATIONS: &str = "+generations";

/// What a job of this type with data of this version needs of a daemon, as others are told.
pub fn skill(job_type: &str, version: u16) -> String {
    format!("{job_type}@{version}")
}

impl Skills {
    /// These types, with data of up to this version.
    pub fn new(job_types: &[&str], version: u16) -> Self {
        Self(job_types.iter().map(|job_type| (*job_type).to_owned()).collect(), version)
    }

    /// The same of a program that compares the generation of read models' builds.
    pub fn comparing_generations(mut self) -> Self {
        self.0.insert(COMPARES_GENERATIONS.to_owned());
        self
    }

    /// Whether the program compares that generation.
    pub fn compare_generations(&self) -> bool {
        self.0.contains(COMPARES_GENERATIONS)
    }

    /// Whether a job that needs this [`skill`] can be run.
    pub fn have(&self, skill: &str) -> bool {
        let Some((job_type, version)) = skill.rsplit_once('@') else { return false };
        self.0.contains(job_type) && version.parse().is_ok_and(|version: u16| version <= self.1)
    }

    fn parse(text: &str) -> Self {
        let (version, types) = text.split_once(' ').unwrap_or((text, ""));
        Self(types.split(',').map(str::to_owned).collect(), version.parse().unwrap_or_default())
    }
}

impl std::fmt::Display for Skills {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.1, self.0.iter().map(String::as_str).collect::<Vec<_>>().join(","))
    }
}

/// A daemon that could do the work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name, which no other has or had.
    pub id: String,
    /// Machine and process, for people.
    pub host: String,
    /// What it knows.
    pub skills: Skills,
    /// How long ago it has shown that it could.
    pub age: Duration,
}

impl LeaseLine {
    /// Writes this daemon down as one of the fleet, with what `it` is and knows, if it could do the work; and lists all that could.
    pub async fn enlist(
        &mut self,
        first: &str,
        id: &str,
        it: Option<&(String, Skills)>,
    ) -> Result<Vec<Member>, BrokerError> {
        let mut call = ENLIST.key(fleet(first));
        let text = it.map(|(host, skills)| format!("{host} {skills}")).unwrap_or_default();
        call.arg(id).arg(text).arg(LIFETIME.as_millis() as u64);
        let members: Vec<(String, u64, String)> = call.invoke_async(&mut self.connection).await?;
        let member = |(id, age, text): (String, u64, String)| {
            let (host, skills) = text.split_once(' ').unwrap_or((&text, ""));
            Member { id, host: host.to_owned(), skills: Skills::parse(skills), age: Duration::from_millis(age) }
        };
        Ok(members.into_iter().map(member).collect())
    }

    /// Strikes this daemon out.
    pub async fn dismiss(&mut self, first: &str, id: &str) -> Result<(), BrokerError> {
        let mut call = redis::cmd("HDEL");
        call.arg(fleet(first)).arg(id);
        Ok(call.query_async(&mut self.connection).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skills_are_told_and_understood() {
        let skills = Skills::new(&["item.restock", "order.place"], 2);
        assert_eq!(Skills::parse(&skills.to_string()), skills);
        for (job_type, version, has) in
            [("item.restock", 1, true), ("item.restock", 2, true), ("item.restock", 3, false), ("item.paint", 1, false)]
        {
            assert_eq!(skills.have(&skill(job_type, version)), has, "{job_type} {version}");
        }
        for foreign in ["", "item.restock", "@", "item.restock@x"] {
            assert!(!skills.have(foreign), "{foreign}");
        }
        assert!(!Skills::parse("").have("item.restock@1"), "what an earlier version wrote");
    }
}
