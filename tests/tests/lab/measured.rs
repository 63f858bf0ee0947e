//! How a figure is taken on a machine that may be busy.

use mose_tests::measured::{held, measured};

#[test]
fn a_figure_that_is_off_once_is_taken_again() {
    let mut figures = [3, 1].into_iter();
    let taken = measured("it", || {
        let figure = figures.next().ok_or("none")?;
        held(figure < 2, || format!("{figure}")).map(|()| figure)
    });
    assert_eq!(taken, 1);
}

#[test]
#[should_panic(expected = "it: [")]
fn a_figure_that_is_always_off_fails() {
    measured("it", || held(false, || "off".to_owned()));
}
