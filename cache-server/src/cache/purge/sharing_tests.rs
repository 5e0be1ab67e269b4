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
    Order(usize, Option<usize>),
    /// A server publishes one of its orders.
    Publish(usize),
    /// A server reads what was published.
    Sync(usize),
    /// A server begins a fill.
    Fill(usize, usize),
    /// A server is killed and opened again.
    Restart(usize),
    /// What was published is lost.
    Flush,
}

fn step() -> impl Strategy<Value = Step> {
    let (server, tag) = (|| 0..SERVERS, || 0..TAGS.len());
    prop_oneof![
        3 => (server(), tag()).prop_map(|(server, tag)| Step::Order(server, Some(tag))),
        1 => server().prop_map(|server| Step::Order(server, None)),
        4 => server().prop_map(Step::Publish),
        6 => server().prop_map(Step::Sync),
        6 => (server(), tag()).prop_map(|(server, tag)| Step::Fill(server, tag)),
        1 => server().prop_map(Step::Restart),
        1 => Just(Step::Flush),
    ]
}

/// An order as the model has it.
struct Ordered {
    server: usize,
    tag: Option<usize>,
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

struct World {
    folders: Vec<tempfile::TempDir>,
    servers: Vec<Option<Purges>>,
    published: std::collections::BTreeMap<Target, u64>,
    newest: u64,
    time: usize,
    orders: Vec<Ordered>,
    /// Which of `orders` each order of a server is, by its number.
    ids: std::collections::BTreeMap<(usize, u64), usize>,
    /// Which of `orders` a shared number is.
    by_shared: std::collections::BTreeMap<u64, usize>,
    fills: Vec<Filled>,
    seen: [u64; SERVERS],
}

fn target(tag: Option<usize>) -> Target {
    tag.map_or(Target::Everything, |tag| Target::Selector(Selector::tag(TAGS[tag])))
}

fn open(folder: &Path) -> Purges {
    let settings = PurgeSettings { orders_max: 1_000, entry_life_max: Duration::MAX };
    let purges = Purges::open(Some(folder), settings, Clock::standing_at(NOON), false).unwrap();
    purges.share();
    purges
}

impl World {
    fn new() -> World {
        let folders: Vec<_> = (0..SERVERS).map(|_| tempfile::tempdir().unwrap()).collect();
        let servers = folders.iter().map(|folder| Some(open(folder.path()))).collect();
        World {
            folders,
            servers,
            published: Default::default(),
            newest: 0,
            time: 0,
            orders: Vec::new(),
            ids: Default::default(),
            by_shared: Default::default(),
            fills: Vec::new(),
            seen: [0; SERVERS],
        }
    }

    fn server(&self, server: usize) -> &Purges {
        self.servers[server].as_ref().unwrap()
    }

    fn take(&mut self, step: Step) {
        self.time += 1;
        match step {
            Step::Order(server, tag) => self.order(server, tag),
            Step::Publish(server) => self.publish(server),
            Step::Sync(server) => self.sync(server),
            Step::Fill(server, tag) => {
                let (number, seen) = (self.server(server).sequence(), self.seen[server]);
                self.fills.push(Filled { server, tag, began: self.time, number, seen });
            }
            Step::Restart(server) => self.restart(server),
            Step::Flush => self.published.clear(),
        }
    }

    fn order(&mut self, server: usize, tag: Option<usize>) {
        let number = self.server(server).order_soon(&[target(tag)], Manner::Hard);
        let mut heard = [false; SERVERS];
        heard[server] = true;
        self.ids.insert((server, number), self.orders.len());
        self.orders.push(Ordered { server, tag, given: self.time, heard });
    }

    fn publish(&mut self, server: usize) {
        let Some(waiting) = self.server(server).unshared(1).first().copied() else { return };
        self.newest += 1;
        let shared = self.newest;
        self.published.insert(waiting.target, shared);
        // It may have another number after a restart.
        let is_it = |order: &Ordered| order.server == server && target(order.tag) == waiting.target;
        let id = self.ids.get(&(server, waiting.first)).copied();
        let id = id.or_else(|| self.orders.iter().rposition(is_it)).unwrap();
        self.by_shared.insert(shared, id);
        // A server publishes with a number above all that it has seen, and has not seen those between.
        self.server(server).note_shared(&[(waiting, shared)]);
    }

    fn sync(&mut self, server: usize) {
        let all: Vec<SharedOrder> = self
            .published
            .iter()
            .map(|(target, shared)| SharedOrder {
                target: *target,
                manner: Manner::Hard,
                shared: *shared,
            })
            .collect();
        self.server(server).apply(&all, self.newest);
        self.seen[server] = self.newest;
        all.iter()
            .for_each(|order| self.orders[self.by_shared[&order.shared]].heard[server] = true);
        // What was lost is published again by whoever knows of it.
        for order in self.server(server).published() {
            let known = self.published.entry(order.target).or_insert(0);
            *known = order.shared.max(*known);
        }
    }

    fn restart(&mut self, server: usize) {
        let purges = self.servers[server].take().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(purges.close());
        let path = self.folders[server].path().to_owned();
        self.servers[server] = Some(open(&path));
        self.seen[server] = 0;
    }

    /// The verdict of a server on what another has filled and shares, and on its own fill.
    fn verdicts(&self, reader: usize, fill: &Filled) -> (Verdict, Option<Verdict>) {
        let selectors = [Selector::tag(TAGS[fill.tag])];
        let position = self.server(fill.server).position(fill.number);
        let number = self.server(reader).number_at(position);
        let own =
            (reader == fill.server).then(|| self.server(reader).verdict(&selectors, fill.number));
        (self.server(reader).verdict(&selectors, number), own)
    }

    fn names(order: &Ordered, fill: &Filled) -> bool {
        order.tag.is_none_or(|tag| tag == fill.tag)
    }

    fn check_never_too_little(&self) {
        for fill in &self.fills {
            for reader in 0..SERVERS {
                let must_die = |order: &&Ordered| {
                    order.heard[reader] && Self::names(order, fill) && fill.began < order.given
                };
                let Some(order) = self.orders.iter().find(must_die) else { continue };
                let (shared, own) = self.verdicts(reader, fill);
                let what = format!("given at {}, filled at {}", order.given, fill.began);
                assert_eq!(shared, Verdict::Dead, "shared: {what}, read on {reader}");
                assert!(own.is_none_or(|own| own == Verdict::Dead), "own: {what} on {reader}");
            }
        }
    }

    fn check_never_too_much(&self) {
        for fill in &self.fills {
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
                    assert_eq!(self.verdicts(reader, fill).0, Verdict::Alive);
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
    ) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
            world.check_never_too_little();
        }
    }

    #[test]
    fn what_was_fetched_after_all_orders_were_seen_is_given_by_all(
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut world = World::new();
        for step in steps.into_iter().filter(|step| !matches!(step, Step::Restart(_) | Step::Flush)) {
            world.take(step);
        }
        world.check_never_too_much();
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

#[test]
fn more_orders_than_are_kept_and_nobody_was_told_of_purge_everything_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let settings = PurgeSettings { orders_max: 10, entry_life_max: Duration::MAX };
    let clock = Clock::standing_at(NOON);
    let purges = Purges::open(Some(folder.path()), settings, clock, false).unwrap();
    purges.share();
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
