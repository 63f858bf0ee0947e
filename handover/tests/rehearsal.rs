//! What each side does at the turning points of a rehearsal: the service is its source's all the time.

use mose_handover::destination::{self, Answer as Told, Destination, Request, Said};
use mose_handover::source::{Answer, Doubt, Effect, Event, Question, Source, Timer, Why};
use mose_handover::{SourceState, Written};
use mose_protocol::record::Outcome;

type Reason = &'static str;

/// A rehearsal whose service was dumped and goes on, while the destination is asked.
fn asking() -> Source<Reason> {
    let (mut source, _) = Source::ordered(true);
    let mut done = Vec::new();
    for event in [Event::Inspected(Ok(())), Event::Written(Written::OnDisk), Event::Ready(Ok(()))] {
        done.extend(source.step(event));
    }
    assert_eq!(done, [Effect::Write(SourceState::Preparing), Effect::MakeReady, Effect::StopAndCopy]);
    assert_eq!(
        source.step(Event::Dumped(Ok("d".into()))),
        [Effect::Ask(Question::Rehearse("d".into()))],
        "nothing is relinquished, not even on disk"
    );
    source
}

#[test]
fn whatever_the_destination_says_the_service_goes_on_at_the_source() {
    let answers = [
        (Answer::Rehearsed, Effect::Conclude(Outcome::Rehearsed, None)),
        (Answer::Refused("bad"), Effect::Conclude(Outcome::RolledBack, Some(Why::Failed("bad")))),
        (Answer::Silent, Effect::Conclude(Outcome::RolledBack, Some(Why::Unheard))),
        (Answer::Unknown, Effect::Conclude(Outcome::RolledBack, Some(Why::Unheard))),
        // What never happens changes nothing about that.
        (Answer::Restored, Effect::Conclude(Outcome::RolledBack, Some(Why::Unheard))),
    ];
    for (answer, end) in answers {
        let mut source = asking();
        assert_eq!(source.step(Event::Answered(answer)), [Effect::TakeBack]);
        assert_eq!(source.step(Event::TakenBack(Ok(()))), [Effect::TellBack]);
        assert_eq!(source.step(Event::ToldBack), [Effect::Forget, end]);
    }
}

#[test]
fn a_rehearsal_is_aborted_while_the_destination_is_asked() {
    let mut source = asking();
    assert!(source.can_be_aborted());
    assert_eq!(source.step(Event::Abort), [Effect::BreakOff]);
    // Even if it is heard that all went well.
    assert_eq!(source.step(Event::Answered(Answer::Rehearsed)), [Effect::TakeBack]);
    let _ = source.step(Event::TakenBack(Ok(())));
    let ended = [Effect::Forget, Effect::Conclude(Outcome::Aborted, Some(Why::Aborted))];
    assert_eq!(source.step(Event::ToldBack), ended);
}

#[test]
fn what_was_only_rehearsed_is_never_given_up() {
    let mut source = asking();
    let _ = source.step(Event::Answered(Answer::Silent));
    let effects = source.step(Event::TakenBack(Err("CRIU hangs")));
    let doubt = Doubt::NotTakenBack { why: Why::Unheard, error: "CRIU hangs" };
    assert_eq!(effects, [Effect::Doubt(doubt), Effect::Set(Timer::Retry)]);
    assert_eq!(source.step(Event::Decided { keep: false }), []);
    let again = [Effect::Stop(Timer::Retry), Effect::TakeBack];
    assert_eq!(source.step(Event::Decided { keep: true }), again);
    assert_eq!(source.step(Event::Decided { keep: false }), []);
    let _ = source.step(Event::TakenBack(Err("CRIU hangs")));
    assert_eq!(source.step(Event::Rang(Timer::Retry)), [Effect::TakeBack], "not discarded");
}

#[test]
fn an_agent_that_was_restarted_lets_its_service_go_on() {
    let (mut source, effects) = Source::<Reason>::taken_up(SourceState::Preparing, true);
    assert_eq!(effects, [Effect::TakeBack]);
    let _ = source.step(Event::TakenBack(Ok(())));
    let ended = [Effect::Forget, Effect::Conclude(Outcome::RolledBack, Some(Why::Restarted))];
    assert_eq!(source.step(Event::ToldBack), ended);
}

fn prepared(rehearsal: bool) -> Destination<Reason> {
    use destination::Event;
    let (mut destination, _) = Destination::asked(1, rehearsal);
    for event in [Event::Admitted(Ok(())), Event::Written(Written::OnDisk), Event::Ready(Ok(false))] {
        let _ = destination.step(event);
    }
    destination
}

/// A destination that has been asked to rehearse, and whose restore is under way.
fn rehearsing() -> Destination<Reason> {
    use destination::{Effect, Event};
    let mut destination = prepared(true);
    let asked = Event::Asked(2, Request::Rehearse("d".into()));
    assert_eq!(destination.step(asked), [Effect::Verify("d".into())]);
    assert_eq!(destination.step(Event::Verified(Ok(()))), [Effect::Rehearse], "nothing is written");
    assert_eq!(destination.said(), Some(Said::Preparing));
    destination
}

#[test]
fn the_destination_says_rehearsed_once_nothing_is_left() {
    use destination::{Effect, Event, Timer};
    let mut destination = rehearsing();
    assert_eq!(destination.step(Event::Rehearsed(Ok(()))), [Effect::Remove]);
    assert_eq!(destination.step(Event::Removed(false)), [Effect::Set(Timer::Retry)]);
    assert_eq!(destination.step(Event::Rang(Timer::Retry)), [Effect::Remove]);
    assert!(destination.is_open());
    assert_eq!(destination.step(Event::Removed(true)), [Effect::Write(Said::Rehearsed)]);
    let told = [Effect::Reply(2, Told::State(Said::Rehearsed))];
    assert_eq!(destination.step(Event::Written(Written::OnDisk)), told);
    assert!(!destination.is_open());
    let close = Event::Asked(3, Request::Close);
    assert_eq!(destination.step(close), [Effect::Reply(3, Told::Done), Effect::Forget]);
}

#[test]
fn a_restore_that_fails_or_is_withdrawn_is_refused_once_nothing_is_left() {
    use destination::{Effect, Event, Why};
    let mut failed = rehearsing();
    assert_eq!(failed.step(Event::Rehearsed(Err("no such file"))), [Effect::Remove]);
    let refused = Said::Refused(Why::Failed("no such file"));
    assert_eq!(failed.step(Event::Removed(true)), [Effect::Write(refused.clone())]);
    let told = [Effect::Reply(2, Told::State(refused))];
    assert_eq!(failed.step(Event::Written(Written::OnDisk)), told);

    let mut withdrawn = rehearsing();
    assert_eq!(withdrawn.step(Event::Asked(3, Request::Withdraw)), [], "once it is ended");
    assert_eq!(withdrawn.step(Event::Rehearsed(Ok(()))), [Effect::Remove]);
    let refused = Said::Refused(Why::Withdrawn);
    assert_eq!(withdrawn.step(Event::Removed(true)), [Effect::Write(refused.clone())]);
    let told = [2, 3].map(|ticket| Effect::Reply(ticket, Told::State(refused.clone())));
    assert_eq!(withdrawn.step(Event::Written(Written::OnDisk)), told);
}

#[test]
fn what_is_rehearsed_is_not_handed_over_and_what_is_handed_over_is_not_rehearsed() {
    use destination::{Effect, Event};
    for (rehearsal, request) in
        [(true, Request::Relinquish("d".into())), (false, Request::Rehearse("d".into()))]
    {
        let told = [Effect::Reply(2, Told::OutOfTurn(Said::Preparing))];
        assert_eq!(prepared(rehearsal).step(Event::Asked(2, request)), told);
    }
}

#[test]
fn a_destination_that_was_restarted_in_a_rehearsal_refuses() {
    use destination::{Effect, Why};
    let (_, effects) = Destination::<Reason>::taken_up(Said::Preparing, true, true);
    assert_eq!(effects, [Effect::Write(Said::Refused(Why::Restarted))]);
    let (destination, effects) = Destination::<Reason>::taken_up(Said::Rehearsed, false, true);
    assert_eq!((destination.said(), effects), (Some(Said::Rehearsed), Vec::new()));
}
