//! Servers that share orders and entries: never is less purged than was ordered, whatever the order in
//! which they hear of it, and what was fetched after all had heard is not purged again.

use proptest::prelude::*;

use super::*;

const NOON: Timestamp = Timestamp(1_800_000_000_000);
const SERVERS: usize = 3;
const TAGS: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Copy, Debug)]
enum Step {
    /// An order is given on a server: of a tag, or of everything.
    Order(usize, Option<usize>, Manner),
    /// A server publishes one of its orders.
    Publish(usize),
    /// A server reads what was published.
    Sync(usize),
    /// A server begins a fill.
    Fill(usize, usize),
    /// A server is killed and opened again.
    Restart(usize),
    /// A server takes over what was filled last, by whichever server, and keeps it.
    Adopt(usize),
    /// What was published is lost.
    Flush,
    /// What was published last is lost.
    LoseLast,
}

fn step() -> impl Strategy<Value = Step> {
    let (server, tag) = (|| 0..SERVERS, || 0..TAGS.len());
    let manner = || prop_oneof![3 => Just(Manner::Hard), 1 => Just(Manner::Soft)];
    let order = |(server, tag, manner)| Step::Order(server, tag, manner);
    prop_oneof![
        3 => (server(), tag().prop_map(Some), manner()).prop_map(order),
        1 => (server(), Just(None), manner()).prop_map(order),
        4 => server().prop_map(Step::Publish),
        6 => server().prop_map(Step::Sync),
        6 => (server(), tag()).prop_map(|(server, tag)| Step::Fill(server, tag)),
        1 => server().prop_map(Step::Restart),
        3 => server().prop_map(Step::Adopt),
        1 => Just(Step::Flush),
        1 => Just(Step::LoseLast),
    ]
}

/// An order as the model has it.
struct Ordered {
    server: usize,
    tag: Option<usize>,
    manner: Manner,
    given: usize,
    heard: [bool; SERVERS],
}

/// A fill as the model has it.
struct Filled {
    server: usize,
    tag: usize,
    began: usize,
    number: u64,
    /// The newest publication that its server had seen.
    seen: u64,
}

/// A fill that another server has taken over.
struct Adopted {
    server: usize,
    /// Which of `fills`.
    fill: usize,
    number: u64,
}

struct World {
    folders: Vec<tempfile::TempDir>,
    servers: Vec<Option<Purges>>,
    orders_max: usize,
    published: std::collections::BTreeMap<(Target, Manner), u64>,
    newest: u64,
    time: usize,
    orders: Vec<Ordered>,
    /// Which of `orders` each order of a server is, by its number.
    ids: std::collections::BTreeMap<(usize, u64), usize>,
    /// Which of `orders` a shared number is.
    by_shared: std::collections::BTreeMap<u64, usize>,
    fills: Vec<Filled>,
    adopted: Vec<Adopted>,
    seen: [u64; SERVERS],
}

fn target(tag: Option<usize>) -> Target {
    tag.map_or(Target::Everything, |tag| Target::Selector(Selector::tag(TAGS[tag])))
}

const ORDERS_MAX: usize = 1_000;

fn open(folder: &Path) -> Purges {
    open_bounded(folder, ORDERS_MAX)
}

fn open_bounded(folder: &Path, orders_max: usize) -> Purges {
    let settings = PurgeSettings { orders_max, entry_life_max: Duration::MAX };
    let purges = Purges::open(Some(folder), settings, Clock::standing_at(NOON), false).unwrap();
    purges.share();
    purges
}

impl World {
    fn new(orders_max: usize) -> World {
        let folders: Vec<_> = (0..SERVERS).map(|_| tempfile::tempdir().unwrap()).collect();
        let opened = |folder: &tempfile::TempDir| Some(open_bounded(folder.path(), orders_max));
        let servers = folders.iter().map(opened).collect();
        World {
            folders,
            orders_max,
            servers,
            published: Default::default(),
            newest: 0,
            time: 0,
            orders: Vec::new(),
            ids: Default::default(),
            by_shared: Default::default(),
            fills: Vec::new(),
            adopted: Vec::new(),
            seen: [0; SERVERS],
        }
    }

    fn server(&self, server: usize) -> &Purges {
        self.servers[server].as_ref().unwrap()
    }

    fn take(&mut self, step: Step) {
        self.time += 1;
        match step {
            Step::Order(server, tag, manner) => self.order(server, tag, manner),
            Step::Publish(server) => self.publish(server),
            Step::Sync(server) => self.sync(server),
            Step::Fill(server, tag) => {
                let (number, seen) = (self.server(server).sequence(), self.seen[server]);
                self.fills.push(Filled { server, tag, began: self.time, number, seen });
            }
            Step::Restart(server) => self.restart(server),
            Step::Adopt(server) => self.adopt(server),
            Step::Flush => self.published.clear(),
            Step::LoseLast => {
                let last = self.published.iter().max_by_key(|(_, shared)| **shared);
                let last = last.map(|(order, _)| *order);
                last.map(|last| self.published.remove(&last));
            }
        }
    }

    fn order(&mut self, server: usize, tag: Option<usize>, manner: Manner) {
        let number = self.server(server).order_soon(&[target(tag)], manner);
        let mut heard = [false; SERVERS];
        heard[server] = true;
        self.ids.insert((server, number), self.orders.len());
        self.orders.push(Ordered { server, tag, manner, given: self.time, heard });
    }

    fn publish(&mut self, server: usize) {
        let Some(waiting) = self.server(server).unshared(1).first().copied() else { return };
        self.newest += 1;
        let shared = self.newest;
        self.published.insert((waiting.target, waiting.manner), shared);
        // It may have another number after a restart.
        let is_it = |order: &Ordered| {
            (order.server, target(order.tag), order.manner)
                == (server, waiting.target, waiting.manner)
        };
        let id = self.ids.get(&(server, waiting.first)).copied();
        let id = id.or_else(|| self.orders.iter().rposition(is_it));
        // Beyond the bound one that nobody gave stands for several.
        assert!(id.is_some() || self.orders_max < ORDERS_MAX);
        self.by_shared.extend(id.map(|id| (shared, id)));
        // A server publishes with a number above all that it has seen, and has not seen those between.
        self.server(server).note_shared(&[(waiting, shared)]);
    }

    fn sync(&mut self, server: usize) {
        let all: Vec<SharedOrder> = self
            .published
            .iter()
            .map(|((target, manner), shared)| SharedOrder {
                target: *target,
                manner: *manner,
                shared: *shared,
            })
            .collect();
        self.server(server).apply(&all, self.newest);
        self.seen[server] = self.newest;
        let ids = all.iter().filter_map(|order| self.by_shared.get(&order.shared));
        ids.for_each(|id| self.orders[*id].heard[server] = true);
        // What was lost is published again by whoever knows of it.
        for order in self.server(server).published() {
            let known = self.published.entry((order.target, order.manner)).or_insert(0);
            *known = order.shared.max(*known);
        }
    }

    fn adopt(&mut self, server: usize) {
        let Some(fill) = self.fills.last() else { return };
        let number = self.server(server).number_at(self.server(fill.server).position(fill.number));
        let verdict = self.server(server).verdict(&[Selector::tag(TAGS[fill.tag])], number);
        if verdict != Verdict::Dead {
            self.adopted.push(Adopted { server, fill: self.fills.len() - 1, number });
        }
    }

    fn restart(&mut self, server: usize) {
        let purges = self.servers[server].take().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(purges.close());
        let path = self.folders[server].path().to_owned();
        self.servers[server] = Some(open_bounded(&path, self.orders_max));
        self.seen[server] = 0;
    }

    /// The numbers that a server goes by for a fill: what is shared, what it has itself, and what it
    /// took over.
    fn numbers(&self, reader: usize, index: usize) -> Vec<(&'static str, u64)> {
        let fill = &self.fills[index];
        let position = self.server(fill.server).position(fill.number);
        let shared = ("shared", self.server(reader).number_at(position));
        let own = (reader == fill.server).then_some(("own", fill.number));
        let is_it = |adopted: &&Adopted| (adopted.server, adopted.fill) == (reader, index);
        let adopted = self.adopted.iter().filter(is_it).map(|it| ("taken over", it.number));
        [shared].into_iter().chain(own).chain(adopted).collect()
    }

    fn names(order: &Ordered, fill: &Filled) -> bool {
        order.tag.is_none_or(|tag| tag == fill.tag)
    }

    fn check_never_too_little(&self) {
        for (index, fill) in self.fills.iter().enumerate() {
            for reader in 0..SERVERS {
                let holds = |order: &&Ordered| {
                    order.heard[reader] && Self::names(order, fill) && fill.began < order.given
                };
                // Hard is the least.
                let orders = self.orders.iter().filter(holds);
                let Some(order) = orders.min_by_key(|order| order.manner) else { continue };
                let what = format!("given at {}, filled at {}", order.given, fill.began);
                let is_enough = |verdict: Verdict| match order.manner {
                    Manner::Hard => verdict == Verdict::Dead,
                    Manner::Soft => verdict != Verdict::Alive,
                };
                for (which, number) in self.numbers(reader, index) {
                    let selectors = [Selector::tag(TAGS[fill.tag])];
                    let verdict = self.server(reader).verdict(&selectors, number);
                    assert!(is_enough(verdict), "{which}: {verdict:?}, {what}, on {reader}");
                }
            }
        }
    }

    fn check_never_too_much(&self) {
        for (index, fill) in self.fills.iter().enumerate() {
            let knows = |order: &&Ordered| {
                let shared = self
                    .by_shared
                    .iter()
                    .find(|(_, id)| std::ptr::eq(&raw const self.orders[**id], &raw const **order));
                shared.is_some_and(|(shared, _)| *shared <= fill.seen)
            };
            let is_spared = self.orders.iter().all(|order| knows(&order));
            for reader in (0..SERVERS).filter(|_| is_spared) {
                if self.server(reader).unshared_count() == 0 && self.seen[reader] == self.newest {
                    let (_, shared) = self.numbers(reader, index)[0];
                    let selectors = [Selector::tag(TAGS[fill.tag])];
                    let verdict = self.server(reader).verdict(&selectors, shared);
                    assert_eq!(verdict, Verdict::Alive);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_server_gives_what_an_order_that_it_has_heard_of_purged(
        steps in proptest::collection::vec(step(), 1..60),
        orders_max in prop_oneof![2 => Just(ORDERS_MAX), 1 => 1..5_usize],
    ) {
        let mut world = World::new(orders_max);
        for step in steps {
            world.take(step);
            world.check_never_too_little();
        }
    }

    #[test]
    fn what_was_fetched_after_all_orders_were_seen_is_given_by_all(
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut world = World::new(ORDERS_MAX);
        let loses = |step: &Step| matches!(step, Step::Restart(_) | Step::Flush | Step::LoseLast);
        for step in steps.into_iter().filter(|step| !loses(step)) {
            world.take(step);
        }
        world.check_never_too_much();
    }
}

/// Steps that were too little or too much once.
#[rustfmt::skip]
fn found() -> Vec<Vec<Step>> {
    use Step::{Adopt, Fill, LoseLast, Publish, Restart, Sync};
    let order = |server, tag| Step::Order(server, tag, Manner::Hard);
    let [a, c, all] = [Some(0), Some(2), None];
    vec![
        vec![order(1, all), Publish(1), order(0, c), Sync(1), Fill(1, 0), Publish(0), Sync(0)],
        vec![order(0, a), order(1, all), Fill(1, 0), order(2, a), Publish(2), Publish(1), Sync(1)],
        vec![order(2, all), Publish(2), Sync(2), Fill(2, 0), order(1, a), Sync(1), Restart(1)],
        vec![order(1, c), Publish(1), order(0, a), Sync(0), Publish(0), Fill(0, 2), Sync(0)],
        vec![
            order(0, a), order(1, a), order(0, a), order(2, all), order(1, c), Publish(2),
            order(0, a), order(2, a), Publish(1), order(2, a), Sync(1), Fill(1, 2), Publish(1),
            order(1, c), Publish(1), Sync(0), Restart(0),
        ],
        vec![
            order(0, a), Publish(0), Sync(1), Fill(1, 2), order(2, c), Publish(2), LoseLast,
            Sync(0), Adopt(0), Sync(2), Sync(0),
        ],
    ]
}

#[test]
fn steps_that_went_wrong_once_go_right() {
    for steps in found() {
        let mut world = World::new(ORDERS_MAX);
        let is_kept = !steps.iter().any(|step| matches!(step, Step::Restart(_)));
        for step in steps {
            world.take(step);
            world.check_never_too_little();
        }
        if is_kept {
            world.check_never_too_much();
        }
    }
}

fn published(target: Target, shared: u64) -> SharedOrder {
    SharedOrder { target, manner: Manner::Hard, shared }
}

fn reopened(purges: &Purges, folder: &Path) -> Purges {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(purges.close());
    open(folder)
}

#[test]
fn an_order_that_another_has_taken_over_before_it_was_told_is_told_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let purges = open(folder.path());
    purges.order_soon(&[target(Some(0))], Manner::Hard);
    assert!(purges.apply(&[published(Target::Everything, 7)], 7));
    let waiting = purges.unshared(10);
    assert_eq!(waiting.iter().map(|order| order.target).collect::<Vec<_>>(), [target(Some(0))]);
    assert!(waiting[0].first < waiting[0].number, "it was given again");
    let purges = reopened(&purges, folder.path());
    let waiting = purges.unshared(10);
    assert_eq!(waiting.iter().map(|order| order.target).collect::<Vec<_>>(), [target(Some(0))]);
    purges.note_shared(&[(waiting[0], 8)]);
    assert_eq!(purges.unshared_count(), 0);
    assert_eq!(reopened(&purges, folder.path()).unshared_count(), 0, "it was told");
}

/// What a server makes of another's entry of tag c at this position, at once and after a restart.
fn verdicts_on_c(purges: &Purges, folder: &Path, position: u64) -> [Verdict; 2] {
    let verdict = |purges: &Purges| {
        let number = purges.number_at(position);
        purges.verdict(&[Selector::tag("c")], number)
    };
    [verdict(purges), verdict(&reopened(purges, folder))]
}

#[test]
fn an_order_holds_after_a_restart_though_one_that_is_heard_of_late_has_taken_it_over() {
    let folder = tempfile::tempdir().unwrap();
    let purges = open(folder.path());
    purges.apply(&[published(target(Some(2)), 4)], 4);
    purges.apply(&[published(Target::Everything, 1)], 4);
    assert!(!purges.apply(&[published(target(Some(2)), 4)], 4), "it is known");
    assert_eq!(verdicts_on_c(&purges, folder.path(), 2), [Verdict::Dead; 2]);
    assert_eq!(verdicts_on_c(&purges, folder.path(), 4), [Verdict::Alive; 2]);
}

#[test]
fn an_order_of_this_server_holds_after_a_restart_though_one_like_it_is_heard_of_late() {
    for late in [target(Some(2)), Target::Everything] {
        for own in [target(Some(2)), Target::Everything] {
            let folder = tempfile::tempdir().unwrap();
            let purges = open(folder.path());
            purges.order_soon(&[own], Manner::Hard);
            purges.note_shared(&[(purges.unshared(1)[0], 5)]);
            purges.apply(&[published(late, 2)], 5);
            let what = format!("{own:?}, and then {late:?}");
            assert_eq!(verdicts_on_c(&purges, folder.path(), 3), [Verdict::Dead; 2], "{what}");
        }
    }
}

#[test]
fn a_soft_order_holds_after_a_restart_though_a_hard_one_that_is_heard_of_late_has_taken_it_over() {
    let folder = tempfile::tempdir().unwrap();
    let purges = open(folder.path());
    purges.apply(&[SharedOrder { manner: Manner::Soft, ..published(target(Some(2)), 5) }], 5);
    purges.apply(&[published(target(Some(2)), 2)], 5);
    for verdict in verdicts_on_c(&purges, folder.path(), 3) {
        assert_ne!(verdict, Verdict::Alive);
    }
}

#[test]
fn orders_of_others_beyond_the_bound_hold_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let purges = open_bounded(folder.path(), 2);
    let order = |(tag, shared)| published(target(Some(tag)), shared);
    purges.apply(&[(2, 5), (0, 6), (1, 7)].map(order), 7);
    assert_eq!(verdicts_on_c(&purges, folder.path(), 4), [Verdict::Dead; 2]);
    let purges = open_bounded(folder.path(), 2);
    assert!(!purges.apply(&[order((2, 5))], 7), "it is known");
    assert_eq!(verdicts_on_c(&purges, folder.path(), 4), [Verdict::Dead; 2]);
}

#[test]
fn an_order_of_everything_does_not_stand_for_an_older_one_in_what_was_filled_between_them() {
    let folder = tempfile::tempdir().unwrap();
    let purges = open(folder.path());
    purges.order_soon(&[Target::Everything], Manner::Hard);
    let filled = purges.sequence();
    purges.note_shared(&[(purges.unshared(1)[0], 5)]);
    let purges = reopened(&purges, folder.path());
    // It was published before ours, and after the fill began.
    assert!(purges.apply(&[published(target(Some(2)), 4)], 5));
    assert_eq!(purges.verdict(&[Selector::tag("c")], filled), Verdict::Dead);
}

#[test]
fn an_order_that_is_given_again_is_not_told_before_those_that_came_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let purges = open(folder.path());
    let first = purges.order_soon(&[target(Some(0))], Manner::Hard);
    purges.order_soon(&[target(Some(1))], Manner::Hard);
    assert!(purges.apply(&[published(target(Some(0)), 7)], 7));
    assert_ne!(purges.unshared(1)[0].first, first, "it waits at the end");
    assert_eq!(purges.first_unshared(), Some(first));
}

#[test]
fn more_orders_than_are_kept_and_nobody_was_told_of_purge_everything_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let purges = open_bounded(folder.path(), 10);
    let tag = |number: usize| Target::Selector(Selector::tag(&number.to_string()));
    let first = purges.order_soon(&[tag(0)], Manner::Hard);
    for number in 1..20 {
        purges.order_soon(&[tag(number)], Manner::Hard);
    }
    let waiting = purges.unshared(100);
    assert!(waiting.len() <= 10, "{} wait", waiting.len());
    assert_eq!((waiting[0].target, waiting[0].first), (Target::Everything, first));
    let position = purges.position(first - 1);
    let number = purges.number_at(position);
    assert_eq!(purges.verdict(&[Selector::tag("any")], number), Verdict::Dead);
}
