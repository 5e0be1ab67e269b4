//! What the budget promises.

use super::budget::Budget;

#[test]
fn the_cap_is_exact_and_a_dropped_reservation_gives_back() {
    let budget = Budget::new(10);
    let mut first = budget.open();
    let mut second = budget.open();
    assert!(first.grow(6) && second.grow(4));
    assert!(!second.grow(1), "eleven bytes must not fit into ten");
    drop(first);
    assert!(second.grow(6));
    second.shrink(100);
    assert_eq!(budget.held(), 0);
}
