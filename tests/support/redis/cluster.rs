//! A cluster of three nodes, each with a third of the hash slots, and no copies.

use futures_util::future::join_all;

use super::Redis;
use crate::eventually;
use crate::programs::lasting_port;

const SLOTS: usize = 16_384;
const NODES: usize = 3;

/// The nodes.
#[derive(Debug)]
pub struct Cluster {
    /// In the order of their slots.
    pub nodes: Vec<Redis>,
}

impl Cluster {
    /// Starts one, and waits until all nodes say that it is well.
    pub async fn start() -> Cluster {
        let nodes = join_all((0..NODES).map(|_| async {
            let bus_port = lasting_port();
            let options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"];
            // When one is gone, the keys of the others are still there.
            let more = ["--cluster-require-full-coverage", "no", "--cluster-port"];
            let bus = bus_port.to_string();
            let node = Redis::with(&[&options[..], &more[..], &[&bus]].concat()).await;
            (node, bus)
        }))
        .await;
        for (number, (node, _)) in nodes.iter().enumerate() {
            let first = (number * SLOTS / NODES).to_string();
            let last = ((number + 1) * SLOTS / NODES - 1).to_string();
            node.call(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]).await;
            node.call(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]).await;
        }
        let (first, _) = &nodes[0];
        for (node, bus) in &nodes[1..] {
            first.call(&["CLUSTER", "MEET", "127.0.0.1", &node.port.to_string(), bus]).await;
        }
        let nodes: Vec<Redis> = nodes.into_iter().map(|(node, _)| node).collect();
        for node in &nodes {
            eventually("a cluster that is well", || async {
                let said = node.call(&["CLUSTER", "INFO"]).await.text();
                let is_well = said.contains("cluster_state:ok")
                    && said.contains(&format!("cluster_slots_ok:{SLOTS}"))
                    && said.contains(&format!("cluster_known_nodes:{NODES}"));
                is_well.then_some(())
            })
            .await;
        }
        Cluster { nodes }
    }

    /// Its URL, by all of its nodes.
    #[must_use]
    pub fn url(&self) -> String {
        let addresses: Vec<String> = self.nodes.iter().map(Redis::address).collect();
        format!("redis+cluster://{}", addresses.join(","))
    }

    /// How many entries each node has.
    pub async fn keys(&self) -> Vec<usize> {
        join_all(self.nodes.iter().map(|node| async { node.keys().await.len() })).await
    }
}
