//! The order of what happened, and what a case does with the server that it shares with the others.

use std::collections::HashMap;

use crate::site::Site;

impl Site {
    /// Ends the load and waits until everything is done.
    pub async fn settle(&mut self) {
        self.stop_load().await;
        self.reconnect().await;
        self.world.drained().await;
    }

    /// The restocks of each item happened in the order in which they were sent. Holds for one daemon that lived through all
    /// of it.
    pub async fn in_order(&self) {
        let mut sent: HashMap<String, Vec<String>> = HashMap::new();
        for job in self.pushed.jobs().into_iter().filter(|job| job.job_type == "item.restock") {
            sent.entry(job.key).or_default().push(job.id);
        }
        for (item, jobs) in sent {
            let history = self.world.history("item", &item).await;
            let restocks = history.iter().filter(|event| event.event_type == "item.restocked");
            let happened: Vec<String> = restocks
                .map(|event| {
                    let metadata: serde_json::Value = serde_json::from_slice(&event.metadata).expect("JSON");
                    metadata["job"].as_str().expect("a job").to_owned()
                })
                .collect();
            let first = happened.iter().zip(&jobs).position(|(happened, sent)| happened != sent);
            assert_eq!((first, happened.len()), (None, jobs.len()), "the restocks of {item} are out of order");
        }
    }
}
