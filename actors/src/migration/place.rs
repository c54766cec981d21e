//! Which host is the best for a machine, and why. Pure.
//!
//! A host is possible when nothing stands in its way. Of those the one comes first that keeps the largest share of its memory free
//! afterwards; virtual CPUs that must share the real ones count against it.

use archipel_contract::{
    Bytes, Fault, HypervisorName,
    migration::{Candidate, Obstacle, ObstacleKind, Reservation, Room},
};
use std::collections::BTreeMap;

/// What a machine takes from a host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Memory; none while it is off.
    pub memory: Bytes,
    /// Virtual CPUs; none while it is off.
    pub vcpus: u32,
}

/// What a host said when it was asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// The host.
    pub host: HypervisorName,
    /// Its answer.
    pub answer: Result<Reservation, Fault>,
}

/// What was planned for hosts already and does not show there yet.
pub type Planned = BTreeMap<HypervisorName, Load>;

/// The hosts, best first, each with its reason.
pub fn rank(need: Load, offers: Vec<Offer>, planned: &Planned) -> Vec<Candidate> {
    let mut rated: Vec<(bool, i64, Candidate)> = offers.into_iter().map(|offer| rate(need, offer, planned)).collect();
    rated.sort_by(|a, b| (b.0, b.1).cmp(&(a.0, a.1)).then_with(|| a.2.host.cmp(&b.2.host)));
    rated.into_iter().map(|(_, _, candidate)| candidate).collect()
}

/// The best host, if any is possible.
pub fn best(ranked: &[Candidate]) -> Option<&Candidate> {
    ranked.first().filter(|c| c.possible)
}

fn rate(need: Load, offer: Offer, planned: &Planned) -> (bool, i64, Candidate) {
    let host = offer.host.to_string();
    let Reservation { mut obstacles, room, .. } = match offer.answer {
        Ok(reservation) => reservation,
        Err(fault) => {
            let obstacles = vec![Obstacle::new(ObstacleKind::Host, fault.to_string())];
            let reason = format!("it cannot be asked: {fault}");
            return (false, 0, Candidate { host, possible: false, obstacles, room: None, reason });
        }
    };
    let taken = planned.get(&offer.host).copied().unwrap_or_default();
    let room = Room {
        memory_free: Bytes(room.memory_free.0.saturating_sub(taken.memory.0)),
        vcpus: room.vcpus.saturating_add(taken.vcpus),
        ..room
    };
    if need.memory > room.memory_free && !obstacles.iter().any(|o| o.kind == ObstacleKind::Memory) {
        let message = format!("it needs {} of memory, and {} of {host} would be left after what is planned", need.memory, room.memory_free);
        obstacles.push(Obstacle::new(ObstacleKind::Memory, message));
    }
    let possible = obstacles.is_empty();
    let free = Bytes(room.memory_free.0.saturating_sub(need.memory.0));
    let vcpus = room.vcpus.saturating_add(need.vcpus);
    let reason = if possible {
        let shared = if vcpus > room.cpus { "share" } else { "have" };
        format!("{free} of its {} of memory stay free, and {vcpus} virtual CPUs {shared} its {}", room.memory, room.cpus)
    } else {
        obstacles.iter().map(|o| o.message.as_str()).collect::<Vec<_>>().join("; ")
    };
    (possible, score(free, vcpus, &room), Candidate { host, possible, obstacles, room: Some(room), reason })
}

/// Thousandths of memory that stay free, less a hundred for every virtual CPU per real one beyond the first.
fn score(free: Bytes, vcpus: u32, room: &Room) -> i64 {
    let share = u128::from(free.0) * 1000 / u128::from(room.memory.0.max(1));
    let crowd = (u64::from(vcpus) * 100 / u64::from(room.cpus.max(1))).saturating_sub(100);
    i64::try_from(share).unwrap_or(i64::MAX).saturating_sub(i64::try_from(crowd).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(host: &str, free: u64, cpus: u32, vcpus: u32, obstacles: &[&str]) -> Offer {
        let room = Room { memory_free: Bytes::mib(free), memory: Bytes::mib(16_384), cpus, vcpus };
        let obstacles = obstacles.iter().map(|m| Obstacle::new(ObstacleKind::Network, *m)).collect();
        Offer { host: host.parse().unwrap(), answer: Ok(Reservation { obstacles, room, landing: None }) }
    }

    const NEED: Load = Load { memory: Bytes::mib(1024), vcpus: 2 };

    fn order(offers: Vec<Offer>, planned: &Planned) -> Vec<String> {
        rank(NEED, offers, planned).into_iter().map(|c| c.host).collect()
    }

    #[test]
    fn the_host_with_most_memory_left_comes_first_and_impossible_ones_last() {
        let offers = vec![
            offer("a", 4096, 8, 0, &[]),
            offer("b", 8192, 8, 0, &[]),
            offer("c", 16_384, 8, 0, &["there is no network lan"]),
            Offer { host: "d".parse().unwrap(), answer: Err(Fault::unavailable("it cannot be reached")) },
        ];
        assert_eq!(order(offers.clone(), &Planned::new()), ["b", "a", "c", "d"]);
        let ranked = rank(NEED, offers, &Planned::new());
        assert_eq!(best(&ranked).unwrap().reason, "7 GiB of its 16 GiB of memory stay free, and 2 virtual CPUs have its 8");
        assert_eq!(ranked[2].reason, "there is no network lan");
        assert!(ranked[3].reason.contains("cannot be reached"));
        assert_eq!(best(&ranked[2..]), None);
    }

    #[test]
    fn crowded_processors_count_against_a_host() {
        let offers = vec![offer("a", 8192, 2, 10, &[]), offer("b", 6144, 8, 0, &[])];
        assert_eq!(order(offers, &Planned::new()), ["b", "a"]);
    }

    #[test]
    fn what_was_planned_is_not_free_any_more() {
        let offers = vec![offer("a", 4096, 8, 0, &[]), offer("b", 4000, 8, 0, &[])];
        let mut planned = Planned::new();
        planned.insert("a".parse().unwrap(), Load { memory: Bytes::mib(1024), vcpus: 1 });
        assert_eq!(order(offers.clone(), &planned), ["b", "a"]);
        planned.insert("a".parse().unwrap(), Load { memory: Bytes::mib(3584), vcpus: 1 });
        let ranked = rank(NEED, offers, &planned);
        assert!(!ranked[1].possible && ranked[1].reason.contains("after what is planned"), "{:?}", ranked[1]);
    }
}
